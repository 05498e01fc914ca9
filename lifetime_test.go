package main

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// live starts both sides with connections that are busy, idle and half set up.
func live(t *testing.T) (client, server *process) {
	t.Helper()
	orPort := listen(t)
	flags := modulesFlags("t", "plain_v1", "stall", "evil_dial_poll_v1", "framed", "framed_v1", "ignore", "evil_ignore_control_v1")
	client = launch(t, clientVariables("t,stall,framed,ignore"), flags...)
	server = launch(t, serverVariables("t,stall,framed,ignore", orPort.Addr().String()), flags...)

	near := connect(t, client.address("t"), server.address("t"))
	far := accept(t, orPort)
	echo(t, near, far)
	busy := connect(t, client.address("t"), server.address("t"))
	accept(t, orPort)                   // and nobody reads there
	go busy.Write(make([]byte, 32<<20)) // which the end of the process ends
	connect(t, client.address("ignore"), server.address("ignore"))
	dial(t, client.address("t")) // says nothing
	for _, name := range []string{"stall", "framed"} {
		c := dial(t, client.address(name))
		go negotiate(c, server.address(name), "") // likewise
		dial(t, server.address(name))
	}
	return client, server
}

// Tor ends a proxy by closing its standard input, which it also does by dying.
func TestEndByStdin(t *testing.T) {
	client, server := live(t)
	for _, p := range []*process{client, server} {
		if err := p.stdin.Close(); err != nil {
			t.Fatal(err)
		}
		p.wait(endTimeout)
		p.checkStatus(0)
	}
}

func TestEndBySignal(t *testing.T) {
	client, server := live(t)
	for p, signal := range map[*process]os.Signal{client: syscall.SIGTERM, server: os.Interrupt} {
		if err := p.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		p.wait(endTimeout)
		p.checkStatus(0)
	}
}

// Unless tor says that it will, closing standard input means nothing.
func TestStdinIgnored(t *testing.T) {
	for name, env := range map[string]variables{
		"unset": clientVariables("t").without("TOR_PT_EXIT_ON_STDIN_CLOSE"),
		"0":     clientVariables("t").with(variables{"TOR_PT_EXIT_ON_STDIN_CLOSE": "0"}),
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, env, module("t", "plain_v1")...)
			p.address("t")
			if err := p.stdin.Close(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-p.exited:
				t.Error("it ended")
			case <-time.After(200 * time.Millisecond): // that nothing happens can only be waited for
			}
			echoThrough(t, p.address("t"))
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			p.wait(endTimeout)
			p.checkStatus(0)
			p.checkOutput()
		})
	}
}

// Tor may want the end while a module is being started that never returns.
func TestEndDuringStart(t *testing.T) {
	for name, end := range map[string]func(*process) error{
		"stdin":  func(p *process) error { return p.stdin.Close() },
		"signal": func(p *process) error { return p.cmd.Process.Signal(syscall.SIGTERM) },
	} {
		p := launch(t, clientVariables("first,spin"), modulesFlags("first", "plain_v1", "spin", "evil_init_spin_v1")...)
		p.line(`^CMETHOD first `)
		if err := end(p); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(*testing.T) {
			p.wait(endTimeout)
			p.checkStatus(0)
		})
	}
}
