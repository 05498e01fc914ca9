package self

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// live starts both sides with connections that are busy, idle and half set up.
func live(t *testing.T) (client, server *process) {
	t.Helper()
	orPort := pttest.Listen(t)
	flags := modulesFlags("t", "plain_v1", "stall", "evil_dial_poll_v1", "framed", "framed_v1", "ignore", "evil_ignore_control_v1")
	client = launch(t, clientVariables("t,stall,framed,ignore"), flags...)
	server = launch(t, serverVariables("t,stall,framed,ignore", orPort.Addr().String()), flags...)

	near := pttest.Connect(t, client.Address("t"), server.Address("t"))
	far := pttest.Accept(t, orPort)
	pttest.Echo(t, near, far)
	busy := pttest.Connect(t, client.Address("t"), server.Address("t"))
	pttest.Accept(t, orPort)            // and nobody reads there
	go busy.Write(make([]byte, 32<<20)) // which the end of the process ends
	pttest.Connect(t, client.Address("ignore"), server.Address("ignore"))
	pttest.Dial(t, client.Address("t")) // says nothing
	for _, name := range []string{"stall", "framed"} {
		c := pttest.Dial(t, client.Address(name))
		go pttest.Negotiate(c, server.Address(name), "") // likewise
		pttest.Dial(t, server.Address(name))
	}
	return client, server
}

// Tor ends a proxy by closing its standard input, which it also does by dying.
func TestPTSpec_3_4_Stdin(t *testing.T) {
	client, server := live(t)
	for _, p := range []*process{client, server} {
		if err := p.CloseStdin(); err != nil {
			t.Fatal(err)
		}
		p.Wait(pttest.EndLimit)
		p.CheckStatus(0)
	}
}

// After a signal nothing new is begun, and what is up may end in its own time.
func TestPTSpec_3_4_Signals(t *testing.T) {
	orPort := pttest.Listen(t)
	client := launch(t, clientVariables("t"), module("t", "plain_v1")...)
	server := launch(t, serverVariables("t", orPort.Addr().String()), module("t", "plain_v1")...)
	near := pttest.Connect(t, client.Address("t"), server.Address("t"))
	far := pttest.Accept(t, orPort)
	for p, signal := range map[*process]os.Signal{client: syscall.SIGTERM, server: os.Interrupt} {
		if err := p.Signal(signal); err != nil {
			t.Fatal(err)
		}
		p.Line(`^LOG SEVERITY=info MESSAGE=".*ending when the connections have`)
		awaitDeaf(t, p.Address("t"))
	}
	pttest.Echo(t, near, far)
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	pttest.AwaitClose(t, far)
	far.Close()
	for _, p := range []*process{client, server} {
		p.Wait(pttest.EndLimit)
		p.CheckStatus(0)
	}
}

// awaitDeaf waits until a process no longer listens at an address. It does not connect
// to find out: the process would carry a connection that it accepts at the last moment,
// and wait for its end.
func awaitDeaf(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(pttest.Patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l, err := net.Listen("tcp", address)
		if err == nil {
			l.Close()
			return
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	t.Errorf("%s is in use after %v", address, pttest.Patience)
}

// A second signal ends what a first one left, as do the limit and tor itself.
func TestDrainEnds(t *testing.T) {
	for name, test := range map[string]struct {
		flags []string
		end   func(*process) error
		why   string
	}{
		"second signal": {nil, func(p *process) error { return p.Signal(syscall.SIGTERM) }, "a second signal came"},
		"limit":         {[]string{"-drain", "10ms"}, func(*process) error { return nil }, "ending with connections left"},
		"stdin":         {nil, func(p *process) error { return p.CloseStdin() }, "standard input was closed"},
	} {
		t.Run(name, func(t *testing.T) {
			target := pttest.Listen(t)
			p := launch(t, clientVariables("t"), append(module("t", "plain_v1"), test.flags...)...)
			pttest.Connect(t, p.Address("t"), target.Addr().String())
			if err := p.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			p.Line(`ending when the connections have`)
			if err := test.end(p); err != nil {
				t.Fatal(err)
			}
			p.Line(test.why)
			p.Wait(pttest.EndLimit)
			p.CheckStatus(0)
		})
	}
}

// A parent that is killed cannot close anything; others may hold its end of standard
// input open.
func TestPTSpec_3_4_Parent(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stdin, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	parent := exec.Command("sh", "-c", `"$0" "$@" <&3 & wait`, os.Args[0], "-module", "t="+testmodules.Path("plain_v1"))
	parent.ExtraFiles = []*os.File{stdin}
	parent.Stdout = in
	parent.Env = append(os.Environ(), pttest.ProgramVariable+"=1")
	for key, value := range clientVariables("t").Without("TOR_PT_STATE_LOCATION") {
		parent.Env = append(parent.Env, key+"="+value)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	in.Close()
	if err := out.SetReadDeadline(time.Now().Add(pttest.Patience)); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	for said.Scan() && said.Text() != "CMETHODS DONE" {
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	parent.Wait() // its status is that of the signal
	var last string
	for said.Scan() {
		last = said.Text()
	}
	if err := said.Err(); err != nil || !strings.Contains(last, "the parent process is gone") {
		t.Errorf("the last line is %q, %v", last, err)
	}
}

// tor's log says of a process that crashed no more than its exit status. The next
// one, which tor starts at once, says the rest; so does one that a user starts.
func TestCrashIsReported(t *testing.T) {
	dir := t.TempDir()
	env := clientVariables("t").With(ptproc.Variables{"TOR_PT_STATE_LOCATION": dir})
	crash := func(p *process) {
		if err := p.Signal(syscall.SIGQUIT); err != nil { // Go ends as after a panic
			t.Fatal(err)
		}
		p.Wait(pttest.Patience)
		if p.Status() != 2 {
			t.Errorf("exit status %d", p.Status())
		}
	}
	const report = "crashed before this start.*SIGQUIT"
	crashing := start(t, env, module("t", "plain_v1")...)
	crashing.Address("t")
	crash(crashing)
	p := launch(t, env, module("t", "plain_v1")...)
	p.Address("t")
	p.Line(`^LOG SEVERITY=error MESSAGE=".*` + report)
	last := filepath.Join(dir, "crash-last.txt")
	if text, err := os.ReadFile(last); err != nil || !strings.Contains(string(text), "goroutine") {
		t.Errorf("the details are %d bytes, %v", len(text), err)
	}
	again := launch(t, env, module("t", "plain_v1")...)
	again.Address("t")
	for _, line := range again.Stdout.All() {
		if strings.Contains(line, "crashed") {
			t.Errorf("it is said a second time: %s", line)
		}
	}
	byHand := append([]string{"client", "-state", dir, "-socks", "127.0.0.1:0"}, append(module("t", "plain_v1"), "t", "127.0.0.1:9")...)
	crashing = start(t, nil, byHand...)
	crashing.Line(`^SOCKS5 proxy at`)
	crash(crashing)
	p = serve(t, byHand...)
	p.ErrorLine(report)
}

// Unless tor says that it will, closing standard input means nothing.
func TestPTSpec_3_2_1_StdinIgnored(t *testing.T) {
	for name, env := range map[string]ptproc.Variables{
		"unset": clientVariables("t").Without("TOR_PT_EXIT_ON_STDIN_CLOSE"),
		"0":     clientVariables("t").With(ptproc.Variables{"TOR_PT_EXIT_ON_STDIN_CLOSE": "0"}),
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, env, append(module("t", "plain_v1"), "-drain", "0")...)
			p.Address("t")
			if err := p.CloseStdin(); err != nil {
				t.Fatal(err)
			}
			echoThrough(t, p.Address("t"))
			if err := p.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			p.Wait(pttest.EndLimit)
			p.CheckStatus(0)
			p.checkOutput()
			if p.said("standard input") > 0 || p.said("ending when the connections have") != 1 {
				t.Errorf("it ended for another reason than the signal: %q", p.Stdout.All())
			}
		})
	}
}

// Tor may want the end while a module is being started that never returns.
func TestEndDuringStart(t *testing.T) {
	for name, end := range map[string]func(*process) error{
		"stdin":  func(p *process) error { return p.CloseStdin() },
		"signal": func(p *process) error { return p.Signal(syscall.SIGTERM) },
	} {
		p := launch(t, clientVariables("first,spin"), modulesFlags("first", "plain_v1", "spin", "evil_init_spin_v1")...)
		p.Line(`^CMETHOD first `)
		if err := end(p); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(*testing.T) {
			p.Wait(pttest.EndLimit)
			p.CheckStatus(0)
		})
	}
}
