package self

import (
	"regexp"
	"strings"
	"testing"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// ptLine matches the specification's lines that this managed proxy may write.
var ptLine = regexp.MustCompile(`^(` + strings.Join([]string{
	`VERSION 1`,
	`VERSION-ERROR no-version`,
	`(ENV|PROXY)-ERROR [ -~]+`,
	`PROXY DONE`,
	`CMETHOD [A-Za-z_]\w* socks5 127\.0\.0\.1:\d+`,
	`SMETHOD [A-Za-z_]\w* (\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+( ARGS:[!-~]+)?`,
	`[CS]METHOD-ERROR [A-Za-z_]\w* [ -~]+`,
	`[CS]METHODS DONE`,
	`LOG SEVERITY=(error|warning|notice|info|debug) MESSAGE="([ !#-\[\]-~]|\\[0-7]{3})*"`,
	`STATUS TYPE=version IMPLEMENTATION="waterproxy" VERSION="\d+\.\d+\.\d+"`,
	`STATUS TRANSPORT=[A-Za-z_]\w* CONNECT=(Success|Failed ERRSTR="([ !#-\[\]-~]|\\[0-7]{3})*")`,
}, "|") + `)$`)

// clientVariables are those that tor sets for a client's proxy, for transports separated
// by commas.
func clientVariables(transports string) ptproc.Variables {
	return ptproc.Client(stateDir, strings.Split(transports, ",")...)
}

// serverVariables are those for a bridge's proxy, each transport on a free loopback port.
func serverVariables(transports, orPort string) ptproc.Variables {
	return ptproc.Server(stateDir, orPort, strings.Split(transports, ",")...)
}

// module returns flags that make a test module a transport.
func module(name, file string) []string {
	return []string{"-module", name + "=" + testmodules.Path(file)}
}

// modulesFlags is module for several, as name, file, name, file.
func modulesFlags(pairs ...string) (flags []string) {
	for i := 0; i < len(pairs); i += 2 {
		flags = append(flags, module(pairs[i], pairs[i+1])...)
	}
	return flags
}

// process is the program, running.
type process struct{ *pttest.Process }

// launch starts the program. When the test ends the process is ended as by tor,
// and what it wrote is checked: lines of the specification on standard output,
// nothing on standard error, where panics and data races would be.
func launch(t *testing.T, env ptproc.Variables, args ...string) *process {
	t.Helper()
	p := start(t, env, args...)
	t.Cleanup(func() {
		if p.CloseStdin(); p.Wait(pttest.EndLimit) {
			p.checkOutput()
		}
	})
	return p
}

// start starts the program in an environment that has nothing of the test's.
func start(t *testing.T, env ptproc.Variables, args ...string) *process {
	t.Helper()
	p := prepare(t, env, args...)
	p.Begin()
	return p
}

// prepare returns a process that has not begun.
func prepare(t *testing.T, env ptproc.Variables, args ...string) *process {
	t.Helper()
	return &process{pttest.NewSelf(t, env, args...)}
}

// startPlain is start for the plain program.
func startPlain(t *testing.T, args ...string) *process {
	t.Helper()
	exe, err := plainProgram()
	if err != nil {
		t.Fatal(err)
	}
	p := prepare(t, nil, args...)
	p.Cmd.Path, p.Cmd.Args[0] = exe, exe
	p.Begin()
	return p
}

// runPlain is run for the plain program.
func runPlain(t *testing.T, args ...string) *process {
	t.Helper()
	p := startPlain(t, args...)
	p.Wait(pttest.Patience)
	return p
}

// run starts the program and returns when it has ended by itself.
func run(t *testing.T, env ptproc.Variables, args ...string) *process {
	t.Helper()
	p := start(t, env, args...)
	p.Wait(pttest.Patience)
	return p
}

func (p *process) checkOutput() {
	p.T.Helper()
	for _, line := range p.Stdout.All() {
		if !ptLine.MatchString(line) {
			p.T.Errorf("standard output has %q, which is no line of the specification", line)
		}
	}
	for _, line := range p.Stderr.All() {
		p.T.Errorf("standard error has %q", line)
	}
}

// ready waits for the line that ends the negotiation and returns the lines up
// to it, without the log.
func (p *process) ready() (said []string) {
	p.T.Helper()
	p.Line(`^[CS]METHODS DONE$`)
	for _, line := range p.Stdout.All() {
		if !strings.HasPrefix(line, "LOG ") && !strings.HasPrefix(line, "STATUS ") {
			said = append(said, line)
		}
	}
	return said
}
