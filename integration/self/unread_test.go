//go:build linux

package self

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// manyConnections log more, at debug, than pipe and queue hold.
const manyConnections = 3000

// unread is an output of a process that is not read.
type unread struct {
	r, w  *os.File
	read  func()        // lets it be read
	ended chan struct{} // closed when all was read
}

// leaveUnread makes a pipe an output of a process, and passes on to the lines what
// comes up to the one that matches, if there is a pattern. The rest stays in the pipe
// until read is called, or the test ends.
func (p *process) leaveUnread(output *io.Writer, to *ptproc.Lines, upTo string) *unread {
	p.T.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		p.T.Fatal(err)
	}
	*output = w
	release := make(chan struct{})
	u := &unread{r: r, w: w, read: sync.OnceFunc(func() { w.Close(); close(release) }), ended: make(chan struct{})}
	go func() {
		defer close(u.ended)
		if upTo != "" {
			for buf := make([]byte, 4096); !matches(to.All(), upTo); {
				n, err := r.Read(buf)
				if err != nil {
					return
				}
				to.Write(buf[:n])
			}
		}
		<-release
		io.Copy(to, r) // its error is that the test closes it
	}()
	p.T.Cleanup(func() { u.read(); r.Close(); <-u.ended })
	return u
}

func matches(lines []string, pattern string) bool {
	re := regexp.MustCompile(pattern)
	for _, line := range lines {
		if re.MatchString(line) {
			return true
		}
	}
	return false
}

// fill fills the pipe, so that whoever writes next has to wait.
func (u *unread) fill(t *testing.T, line string) {
	t.Helper()
	fd := int(u.w.Fd())
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{strings.Repeat(line+"\n", 100), line + "\n"} {
		for {
			n, err := unix.Write(fd, []byte(part))
			if errors.Is(err, unix.EAGAIN) {
				break
			}
			if err != nil || n%(len(line)+1) != 0 {
				t.Fatal(n, err)
			}
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// filler is a line that tor could get.
const filler = `LOG SEVERITY=debug MESSAGE="filler"`

// echoServer sends back what comes, and returns where.
func echoServer(t *testing.T) string {
	t.Helper()
	return pttest.Serve(t, func(c *net.TCPConn) { io.Copy(c, c) })
}

// carry makes connections one after the other, and sends something over each.
func carry(t *testing.T, n int, open func() net.Conn) {
	t.Helper()
	for i := range n {
		c := open()
		if err := pttest.Exchange(c, []byte("text"), []byte("text")); err != nil {
			t.Fatalf("connection %d of %d: %v", i+1, n, err)
		}
		c.Close()
	}
}

// begun is a service of which an output is not read, and a way to connect through it.
type begun struct {
	*process
	*unread
	open func() net.Conn
}

// services start each service. tor is left with its lines of the log after those of the
// negotiation, and a standalone service with its standard error.
var services = map[string]func(t *testing.T, flags ...string) begun{
	"client": func(t *testing.T, flags ...string) begun {
		p := prepare(t, clientVariables("t"), append(module("t", "many_c"), flags...)...)
		u := p.leaveUnread(&p.Cmd.Stdout, p.Stdout, "^CMETHODS DONE$")
		p.Begin()
		at, target := p.Address("t"), echoServer(t)
		return begun{p, u, func() net.Conn { return pttest.Connect(t, at, target) }}
	},
	"server": func(t *testing.T, flags ...string) begun {
		p := prepare(t, serverVariables("t", echoServer(t)), append(module("t", "many_c"), flags...)...)
		u := p.leaveUnread(&p.Cmd.Stdout, p.Stdout, "^SMETHODS DONE$")
		p.Begin()
		at := p.Address("t")
		return begun{p, u, func() net.Conn { return pttest.Dial(t, at) }}
	},
	"standalone": func(t *testing.T, flags ...string) begun {
		args := append([]string{"client", "-state", stateDir, "-forward", "127.0.0.1:0"}, module("t", "many_c")...)
		p := prepare(t, nil, append(append(args, flags...), "t", echoServer(t))...)
		u := p.leaveUnread(&p.Cmd.Stderr, p.Stderr, "")
		p.Begin()
		at := p.Line(`^TCP forward at (\S+)$`)[1]
		return begun{p, u, func() net.Conn { return pttest.Dial(t, at) }}
	},
}

// Connections, reloads and the end go on while an output is not read. Once it is, the
// lines that were dropped are counted in it.
func TestUnreadOutput(t *testing.T) {
	for name, service := range services {
		t.Run(name, func(t *testing.T) {
			p := service(t, "-log-level", "debug")
			output := p.Stdout
			if name == "standalone" {
				output = p.Stderr
			}
			carry(t, manyConnections, p.open)
			p.hangUp()
			carry(t, 1, p.open)
			p.read()
			p.Await(output, `[1-9]\d* lines were dropped because standard output was not read|level=WARN msg="lines of the log were dropped because standard error was not read" lines=[1-9]`)
			p.hangUp()
			p.Await(output, "there is nothing new to load")
			p.Signal(syscall.SIGTERM)
			p.Wait(pttest.Patience)
			<-p.ended
			p.Await(output, "ending when the connections have")
			if name != "standalone" {
				p.checkOutput()
				return
			}
			for _, line := range output.All() {
				if !strings.HasPrefix(line, "time=") {
					t.Errorf("standard error has %q", line)
				}
			}
		})
	}
}

// A process ends though its output is not read.
func TestUnreadEnd(t *testing.T) {
	for name, service := range services {
		t.Run(name, func(t *testing.T) {
			p := service(t, "-drain", "1ms")
			p.fill(t, filler)
			if err := pttest.Exchange(p.open(), []byte("text"), []byte("text")); err != nil {
				t.Fatal(err)
			}
			p.hangUp()
			if err := p.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			p.Wait(pttest.Patience)
			p.CheckStatus(0)
		})
	}
}

// tor's closing of standard input ends a process that could not even write the lines of
// the negotiation.
func TestUnreadNegotiation(t *testing.T) {
	for name, end := range map[string]bool{"ends": true, "goes on": false} {
		t.Run(name, func(t *testing.T) {
			p := prepare(t, clientVariables("t"), module("t", "many_c")...)
			u := p.leaveUnread(&p.Cmd.Stdout, p.Stdout, "")
			u.fill(t, filler)
			p.Begin()
			if end {
				p.CloseStdin()
				p.Wait(pttest.Patience)
				p.CheckStatus(0)
				return
			}
			u.read()
			echoThrough(t, p.Address("t"))
		})
	}
}

// A reader that has gone costs no more than what it would have read.
func TestOutputClosed(t *testing.T) {
	for name, service := range services {
		t.Run(name, func(t *testing.T) {
			p := service(t, "-log-level", "debug")
			p.w.Close()
			p.r.Close()
			carry(t, 50, p.open)
			p.hangUp()
			carry(t, 1, p.open)
			if err := p.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			p.Wait(pttest.Patience)
			p.CheckStatus(0)
			if said := p.Stderr.All(); len(said) > 0 {
				t.Errorf("standard error has %q", said)
			}
		})
	}
}

// onSmallDisk has a process run where a directory is a disk of a megabyte, and returns
// under what name the test sees it once the process has begun.
func (p *process) onSmallDisk(dir string) (seen func() string) {
	p.T.Helper()
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		p.T.Skip("there is no unshare: ", err)
	}
	try := exec.Command(unshare, "--mount", "mount", "-t", "tmpfs", "none", dir)
	if text, err := try.CombinedOutput(); err != nil {
		p.T.Skipf("a disk cannot be made: %v, %s", err, text)
	}
	const script = `mount -t tmpfs -o size=1m none "$1" && shift && exec "$0" "$@"`
	p.Cmd.Path = unshare
	p.Cmd.Args = append([]string{unshare, "--mount", "sh", "-c", script, p.Cmd.Args[0], dir}, p.Cmd.Args[1:]...)
	return func() string { return filepath.Join("/proc", strconv.Itoa(p.Cmd.Process.Pid), "root", dir) }
}

// The log on a full disk holds up nothing, tears no line, and is heard of once where
// people look.
func TestLogOnFullDisk(t *testing.T) {
	for name, test := range map[string]struct {
		env  ptproc.Variables
		args []string
		line string // that the process prints when it is up
	}{
		"managed":    {clientVariables("t"), nil, `^CMETHOD t socks5 (\S+)$`},
		"standalone": {nil, []string{"client", "-forward", "127.0.0.1:0", "-state"}, `^TCP forward at (\S+)$`},
	} {
		t.Run(name, func(t *testing.T) {
			dir, target := t.TempDir(), echoServer(t)
			flags := append(module("t", "many_c"), "-log", "log", "-log-level", "debug")
			if test.env != nil {
				test.env["TOR_PT_STATE_LOCATION"] = dir
				test.args = flags
			} else {
				test.args = append(append(append(test.args, dir), flags...), "t", target)
			}
			p := prepare(t, test.env, test.args...)
			seen := p.onSmallDisk(dir)
			p.Begin()
			at := p.Line(test.line)[1]
			open, heard := func() net.Conn { return pttest.Dial(t, at) }, p.Stderr
			if test.env != nil {
				open, heard = func() net.Conn { return pttest.Connect(t, at, target) }, p.Stdout
			}
			full := time.Now()
			rest := filepath.Join(seen(), "rest")
			if err := os.WriteFile(rest, make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("the disk does not become full: %v", err)
			}
			carry(t, manyConnections, open)
			if err := os.Remove(rest); err != nil {
				t.Fatal(err)
			}
			p.Await(heard, "lines of the log were dropped because the log file could not be written")
			count := 0
			for _, line := range heard.All() {
				if strings.Contains(line, "cannot write the log file") {
					count++
				}
			}
			if count < 1 || count > 1+int(time.Since(full)/time.Minute) {
				t.Errorf("%d lines about the disk", count)
			}
			log, err := os.Open(filepath.Join(seen(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			if err := p.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			p.Wait(pttest.Patience)
			p.CheckStatus(0)
			checkLog(t, log)
		})
	}
}

// checkLog checks a log that was dropped in part.
func checkLog(t *testing.T, log io.Reader) {
	t.Helper()
	text, err := io.ReadAll(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "time=") || strings.Count(line, "time=") != 1 || !strings.HasSuffix(line, "\n") {
			t.Errorf("the log has %q", line)
		}
	}
	for _, want := range []string{"lines of the log were dropped", "ending when the connections have"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the log has no record %q", want)
		}
	}
}

// A log that is no regular file is not opened: its records go where they can.
func TestLogIsFIFO(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "log"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serve(t, "client", "-state", dir, "-log", "log", "-socks", "127.0.0.1:0", "plain", "127.0.0.1:1")
	p.ErrorLine("level=WARN msg=\"the log goes to standard error\" error=\"-log: .*log is not a regular file\"")
	p = launch(t, clientVariables("t").With(ptproc.Variables{"TOR_PT_STATE_LOCATION": dir}), append(module("t", "many_c"), "-log", "log")...)
	p.Line("^LOG SEVERITY=warning .*log is not a regular file")
	p.ready()
}
