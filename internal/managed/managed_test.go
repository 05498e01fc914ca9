package managed

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"testing"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/pttest"
)

func TestMain(m *testing.M) { os.Exit(pttest.Run(m)) }

// runner is a transport that has nothing to do.
type runner struct{ name string }

func (runner) Close() error { return nil }
func (runner) Wait()        {}

// Transports start at once, and are announced in tor's order.
func TestStartConcurrently(t *testing.T) {
	names := []string{"a", "b", "c"}
	begun := make(chan string, len(names))
	release := make(chan struct{})
	results := startConcurrently(t.Context(), names, func(name string) (runner, error) {
		begun <- name
		<-release
		if name == "b" {
			return runner{}, errors.New("b does not start")
		}
		return runner{name}, nil
	})
	for range names {
		<-begun // before any of them has ended
	}
	close(release)
	var order []string
	for name, result := range results {
		order = append(order, name)
		if r, err := result(); (err != nil) != (name == "b") || err == nil && r.name != name {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if !slices.Equal(order, names) {
		t.Errorf("the order is %q", order)
	}
}

// Nothing waits for what has not started when the process is to end.
func TestStartConcurrentlyEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	results := startConcurrently(ctx, []string{"slow"}, func(string) (runner, error) { <-release; return runner{}, nil })
	cancel()
	for _, result := range results {
		if _, err := result(); err == nil {
			t.Error("there is no error")
		}
	}
}

// A transport without an address gets any port, as tor would give it.
func TestAddBindAddrs(t *testing.T) {
	t.Setenv("TOR_PT_SERVER_TRANSPORTS", "a,bc,b")
	for given, want := range map[string]string{
		"":                                  "a-0.0.0.0:0,bc-0.0.0.0:0,b-0.0.0.0:0",
		"bc-127.0.0.1:1":                    "bc-127.0.0.1:1,a-0.0.0.0:0,b-0.0.0.0:0",
		"a-[::1]:2,b-1.2.3.4:5,bc-[::1]:90": "a-[::1]:2,b-1.2.3.4:5,bc-[::1]:90",
	} {
		t.Setenv("TOR_PT_SERVER_BINDADDR", given)
		if err := addBindAddrs(); err != nil {
			t.Fatal(err)
		}
		if got := os.Getenv("TOR_PT_SERVER_BINDADDR"); got != want {
			t.Errorf("%q becomes %q, want %q", given, got, want)
		}
	}
}

// A module's words cannot begin a line of their own.
func TestOneLine(t *testing.T) {
	if got, want := oneLine(errors.New("it \x1bfailed: \u00e9\nCMETHODS DONE")), "it ?failed: ?"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzServerEnvironment: whatever tor's variables have, it is taken or refused.
func FuzzServerEnvironment(f *testing.F) {
	f.Add("a,b", "a-127.0.0.1:1", "127.0.0.1:2", "", "a:k=v")
	f.Add("", "é-1", "[::1]:x", "\xff", "a:b=\\")
	stdout := pt.Stdout
	pt.Stdout = io.Discard
	f.Cleanup(func() { pt.Stdout = stdout })
	f.Fuzz(func(t *testing.T, transports, binds, orPort, extended, options string) {
		for key, value := range map[string]string{
			"TOR_PT_MANAGED_TRANSPORT_VER": "1", "TOR_PT_SERVER_TRANSPORTS": transports, "TOR_PT_SERVER_BINDADDR": binds,
			"TOR_PT_ORPORT": orPort, "TOR_PT_EXTENDED_SERVER_PORT": extended, "TOR_PT_SERVER_TRANSPORT_OPTIONS": options,
		} {
			if err := os.Setenv(key, value); err != nil {
				t.Skip() // no environment can have it
			}
		}
		info, err := serverSetup()
		for _, b := range info.Bindaddrs {
			if err == nil && b.Addr == nil {
				t.Errorf("%s has no address", b.MethodName)
			}
		}
	})
}
