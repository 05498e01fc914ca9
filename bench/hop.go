package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// hopBuffer is the copy buffer of a relay hop.
const hopBuffer = 64 << 10

// hopCommand is the subcommand that makes this executable a relay hop.
const hopCommand = "hop"

// hopEnv is set for a hop, so that a test binary knows that it is to be one.
const hopEnv = "WATERPROXY_BENCH_HOP"

// runHop relays every connection to one address until standard input ends: what a
// proxy in Go costs that does nothing to the bytes. It runs as a process of its
// own so that it is accounted, and scheduled, like the proxies it is compared to.
func runHop(args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet(hopCommand, flag.ContinueOnError)
	to := flags.String("to", "", "where connections are relayed to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, l.Addr()); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				failed <- err
				return
			}
			go relay(c.(*net.TCPConn), *to)
		}
	}()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, stdin)
		ended <- err
	}()
	select {
	case err := <-failed:
		return err
	case err := <-ended:
		return errors.Join(err, l.Close())
	}
}

// relay copies both ways, passing on the end of each direction by itself.
func relay(c *net.TCPConn, to string) {
	defer c.Close()
	next, err := net.Dial("tcp", to)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hop:", err)
		return
	}
	defer next.Close()
	up := make(chan struct{})
	go func() {
		defer close(up)
		copyHalf(next.(*net.TCPConn), c)
	}()
	copyHalf(c, next.(*net.TCPConn))
	<-up
}

// copyHalf copies through a buffer. The wrappers hide ReadFrom and WriteTo: with
// them the kernel would splice the sockets together and no byte would come
// through the process, which no proxy that changes bytes can match.
func copyHalf(dst, src *net.TCPConn) {
	buf := make([]byte, hopBuffer)
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf)
	if err != nil {
		// One end is broken: neither direction can go on.
		dst.Close()
		src.Close()
		return
	}
	if err := dst.CloseWrite(); err != nil {
		dst.Close()
	}
}

// launchHop starts this executable as a relay hop and returns it with the
// address that it listens on and the time it took to say so.
func launchHop(ctx context.Context, to string, timeout time.Duration, echo io.Writer) (*process, string, time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", 0, err
	}
	p, err := spawn([]string{self, hopCommand, "-to", to}, append(os.Environ(), hopEnv+"=1"), true, echo)
	if err != nil {
		return nil, "", 0, err
	}
	type result struct {
		addr string
		at   time.Time
	}
	results, ready := make(chan result, 1), make(chan error, 1)
	go func() {
		defer p.drained()
		line, err := bufio.NewReader(p.stdout).ReadString('\n')
		if err != nil {
			ready <- fmt.Errorf("no address: %w", err)
			return
		}
		results <- result{strings.TrimSpace(line), time.Now()}
		ready <- nil
	}()
	if err := p.readyOrExit(ctx, ready, timeout); err != nil {
		return nil, "", 0, errors.Join(fmt.Errorf("relay hop: %w%s", err, p.stderr.quoted()), p.kill())
	}
	r := <-results
	return p, r.addr, r.at.Sub(p.began), nil
}
