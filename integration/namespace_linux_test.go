package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"waterproxy/internal/ptproc"
)

// insideVariable is set where a test runs in a network of its own.
const insideVariable = "WATERPROXY_TEST_NAMESPACE"

// inOwnNetwork runs the rest of the test in a new network namespace, in which it is
// root: it reports true there, and false where the test has been run like that.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVariable) != "" {
		run(t, "ip", "link", "set", "lo", "up")
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$", "-test.timeout=8m")
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	text, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		t.Skipf("this system lets us make no network namespace: %v", err)
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, text)
	} else if testing.Verbose() {
		t.Logf("in a network of its own:\n%s", text)
	}
	return false
}

// run runs a program that has to succeed.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if text, err := exec.Command(program(t, name), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, text)
	}
}

// island is a network namespace from which one address can be reached, and no other.
type island struct {
	t      *testing.T
	holder string // the process that keeps it
}

// The two ends of the bridge to the island.
const (
	mainland  = "10.200.0.1"
	islandEnd = "10.200.0.2"
)

func newIsland(t *testing.T) *island {
	t.Helper()
	holder := exec.Command(program(t, "cat"))
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stdin, err := holder.StdinPipe() // which ends it, however the test does
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := holder.Wait(); err != nil {
			t.Error(err)
		}
	})
	i := &island{t, fmt.Sprint(holder.Process.Pid)}
	run(t, "ip", "link", "add", "island", "type", "veth", "peer", "name", "main", "netns", i.holder)
	run(t, "ip", "address", "add", mainland+"/30", "dev", "island")
	run(t, "ip", "link", "set", "island", "up")
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"address", "add", islandEnd + "/30", "dev", "main"},
		{"link", "set", "main", "up"},
	} {
		run(t, "nsenter", append([]string{"--target", i.holder, "--net", "ip"}, args...)...)
	}
	return i
}

// executable returns a program that runs another one on the island.
func (i *island) executable(path string, args ...string) string {
	i.t.Helper()
	script := filepath.Join(i.t.TempDir(), "program")
	text := fmt.Sprintf("#!/bin/sh\nexec nsenter --target %s --net -- '%s' %s\n", i.holder, path, strings.Join(args, " "))
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		i.t.Fatal(err)
	}
	return script
}

// do calls f on the island. What it dials must be an address.
func (i *island) do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and the thread ends with this goroutine
		ns, err := os.Open("/proc/" + i.holder + "/ns/net")
		if err == nil {
			defer ns.Close()
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// strayed counts what wanted to leave the island, but had no route.
func (i *island) strayed() (n int) {
	i.t.Helper()
	err := i.do(func() error {
		v4, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		names, values, found := strings.Cut(string(v4), "\n")
		if !found {
			return errors.New("/proc/thread-self/net/snmp has one line")
		}
		counts := strings.Fields(values)
		for at, name := range strings.Fields(names) {
			if name == "OutNoRoutes" {
				fmt.Sscan(counts[at], &n)
			}
		}
		v6, err := os.ReadFile("/proc/thread-self/net/snmp6")
		if _, after, found := strings.Cut(string(v6), "Ip6OutNoRoutes"); found {
			var more int
			fmt.Sscan(after, &more)
			n += more
		}
		return err
	})
	if err != nil {
		i.t.Fatal(err)
	}
	return n
}

// startDaemon starts a program that runs until the test ends or stop is called, and
// waits until it listens.
func startDaemon(t *testing.T, address, name string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(program(t, name), args...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := ptproc.StartTied(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Kill() // or it has ended
		<-ended
	}
	t.Cleanup(stop)
	waitListening(t, address, ended)
	return stop
}

// waitListening waits until somebody listens at an address.
func waitListening(t *testing.T, address string, ended <-chan struct{}) {
	t.Helper()
	ctx := testContext(t)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatal("it has ended")
		case <-ctx.Done():
			t.Fatalf("nobody listens at %s", address)
		case <-pause():
		}
	}
}
