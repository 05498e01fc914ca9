package transport

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"waterproxy/internal/records"
)

// describe writes arguments as the module faults does when it tells them.
func describe(args Args) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(args)) {
		for _, value := range args[name] {
			all = append(all, hex.EncodeToString([]byte(name))+"-"+hex.EncodeToString([]byte(value)))
		}
	}
	return strings.Join(all, ",")
}

// everyByte has each byte once.
func everyByte() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

// oddArgs are arguments that are not easy to write in a line.
var oddArgs = map[string]Args{
	"plain":            {"cert": {"dGVzdA=="}, "iat-mode": {"0"}},
	"special bytes":    {`a;b=c\d`: {`;`, `=`, `\`, `\\;;==`, `\;`}},
	"every byte":       {"value": {everyByte()}, everyByte(): {"name"}},
	"line and zero":    {"a\nb": {"\n", "\r\n", "\x00", "a\x00b"}},
	"not ASCII":        {"naïve": {"日本", "\xff\xfe"}},
	"empty values":     {"a": {""}, "b": {"", "", "x", ""}},
	"repeated":         {"a": {"3", "1", "2", "1"}, "b": {"3"}},
	"spaces and quote": {" ": {" ", "\t", `"`, "' '"}},
}

// eachWay runs a test with instances that are shared and with one for each
// connection.
func eachWay(t *testing.T, test func(t *testing.T, cfg Config)) {
	for name, instances := range map[string]int{"shared": 1, "each": InstancePerConn} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, faults)
			cfg.Instances = instances
			test(t, cfg)
		})
	}
}

// TestDialArguments: the arguments of a dial reach the transport as they are.
func TestDialArguments(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg Config) {
		d, address := newDialer(t, cfg), echoServer(t)
		for name, args := range oddArgs {
			args = maps.Clone(args)
			args["tell"] = []string{"arguments"}
			if got, want := readLine(t, dial(t, d, address, args)), describe(args); got != want {
				t.Errorf("%s: the transport got %s, want %s", name, got, want)
			}
		}
	})
}

// TestLongArguments: what an instance that others share can be told is bounded, and
// one byte more is an error that says so.
func TestLongArguments(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	d, address := manyDialer(t, cfg), echoServer(t)
	args := fault("tell", "arguments", "x", "")
	room := records.MaxOpen - len(records.Target("tcp", address)) - len(args.String())
	args["x"][0] = strings.Repeat("y", room)
	if got, want := readLine(t, dial(t, d, address, args)), describe(args); got != want {
		t.Errorf("%d bytes arrived as %d", len(args.String()), len(got))
	}
	for _, n := range []int{room + 1, 4096, 1 << 20} {
		args["x"][0] = strings.Repeat("y", n)
		_, err := d.Dial(t.Context(), "tcp", address, args)
		if !errors.Is(err, ErrLimit) || !strings.Contains(fmt.Sprint(err), "bytes of arguments") {
			t.Errorf("an argument of %d bytes: %v", n, err)
		}
	}
}

// TestNamelessArgument: an argument needs a name.
func TestNamelessArgument(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg Config) {
		_, err := newDialer(t, cfg).Dial(t.Context(), "tcp", echoServer(t), Args{"": {"value"}})
		if !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), "an argument has no name") {
			t.Errorf("it says %v", err)
		}
	})
}

// published starts a server and returns what it has published.
func published(t *testing.T, cfg Config, config Args) Args {
	t.Helper()
	return listenWith(t, cfg, config).Args()
}

// listenWith starts a server with a configuration.
func listenWith(t *testing.T, cfg Config, config Args) *Listener {
	t.Helper()
	cfg.ModuleConfig = []byte(config.String())
	return listen(t, cfg)
}

// TestServerArguments: a server's arguments reach its start as they are.
func TestServerArguments(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg Config) {
		for name, args := range oddArgs {
			cfg.Args = args
			got, want := published(t, cfg, fault("publish", "arguments")), fault("seen", describe(args))
			if got.String() != want.String() {
				t.Errorf("%s: the transport got %v, want %v", name, got, want)
			}
		}
		cfg.Args = nil
		if got := published(t, cfg, fault("publish", "arguments")); got.String() != "seen=" {
			t.Errorf("without arguments the transport got %v", got)
		}
		cfg.Args = fault("long", strings.Repeat("x", 100_000))
		if got := published(t, cfg, nil); got != nil {
			t.Errorf("a server that publishes nothing has %v", got)
		}
	})
}

// TestPublish: what a server publishes is what Listener.Args returns.
func TestPublish(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg Config) {
		for name, args := range map[string]Args{
			"one":            {"key": {"value"}},
			"special bytes":  {`a;b=c\d`: {`;`, `=`, `\`}},
			"empty":          {"a": {""}, "b": {"", "x"}},
			"all that print": {"a": {`!"#$%&'()*+,-./0:;<=>?@[\]^_{|}~` + "`"}},
			"none":           nil,
			"long":           {"a": {strings.Repeat("x", 4096-len("a="))}},
		} {
			cfg.Args = args
			if got := published(t, cfg, fault("publish", "again")); !maps.EqualFunc(got, args, slices.Equal) {
				t.Errorf("%s: published %v, want %v", name, got, args)
			}
		}
	})
}

// TestPublishWrong: what could not stand in a line for tor fails the start.
func TestPublishWrong(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg Config) {
		for text, says := range map[string]string{
			"a":                              "it published malformed arguments",
			"=b":                             "it published malformed arguments",
			"a=b;":                           "it published malformed arguments",
			`a=b\`:                           "it published malformed arguments",
			"a=b c":                          "not printable",
			"a=b\nSMETHOD x 1.2.3.4:":        "not printable",
			"a=\x00":                         "not printable",
			"a=\x7f":                         "not printable",
			"é=b":                            "not printable",
			"a=" + strings.Repeat("x", 4096): "smethod",
		} {
			cfg.ModuleConfig = []byte(fault("publish", "text", "text", text).String())
			l, err := Listen(t.Context(), cfg, loopback(t))
			if !errors.Is(err, ErrModule) || !strings.Contains(fmt.Sprint(err), says) {
				t.Errorf("%.20q: %v, want %q", text, err, says)
			}
			if err == nil {
				l.Close()
			}
		}
		awaitInstances(t, cfg.Module, 0)
	})
}

// TestPublishAddress: a server may publish an address that leads nowhere, and no other.
func TestPublishAddress(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg Config) {
		for address, good := range map[string]bool{
			"[2001:db8:1:2:3:4:5:6]:443": true, "[2001:db8::]:1": true,
			"[2001:db8::1]:0": false, "[2001:db8::1%eth0]:443": false, "2001:db8::1": false, "[2001:db9::1]:443": false,
			"[::1]:443": false, "192.0.2.1:443": false, "[2001:db8::1]:443\nx": false, "bridge.example:443": false,
		} {
			cfg.ModuleConfig = []byte(fault("publish", "address", "address", address).String())
			l, err := Listen(t.Context(), cfg, loopback(t))
			if err != nil {
				if good || !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), "it published an address that is not of the documentation prefix") {
					t.Errorf("%q: %v", address, err)
				}
				continue
			}
			if got := l.Published(); !good || got.Address.String() != address || got.Args != nil {
				t.Errorf("%q: it published %v", address, got)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		if got := listenWith(t, cfg, nil).Published(); got.Address.IsValid() || got.Args != nil {
			t.Errorf("without any: %v", got)
		}
	})
}

// TestStateDir: files that a module keeps are there for the next instance, and none
// outside of its directory are.
func TestStateDir(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg Config) {
		if got := published(t, cfg, fault("publish", "count")); got.String() != "count=0" {
			t.Errorf("without a directory: %v", got)
		}
		cfg.StateDir = t.TempDir()
		for i := range 3 {
			if got, want := published(t, cfg, fault("publish", "count")).String(), fmt.Sprint("count=", i+1); got != want {
				t.Errorf("start %d: %s, want %s", i+1, got, want)
			}
		}
		if kept, err := os.ReadFile(filepath.Join(cfg.StateDir, "count")); err != nil || string(kept) != "3" {
			t.Errorf("kept is %q, %v", kept, err)
		}
		cfg.StateDir = filepath.Join(cfg.StateDir, "missing")
		_, err := Listen(t.Context(), cfg, loopback(t))
		for how, err := range map[string]error{"Listen": err, "Start": newDialer(t, cfg).Start(t.Context())} {
			if !errors.Is(err, ErrConfig) || !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s with a directory that is not there: %v", how, err)
			}
		}
	})
}

// TestStateDirIsAll: a module cannot leave its directory, whatever is in it.
func TestStateDirIsAll(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg Config) {
		outside := t.TempDir()
		cfg.StateDir = filepath.Join(outside, "state")
		err := errors.Join(
			os.Mkdir(cfg.StateDir, 0o700),
			os.Mkdir(filepath.Join(outside, "directory"), 0o700),
			os.WriteFile(filepath.Join(outside, "file"), []byte("before"), 0o600),
			os.Symlink("..", filepath.Join(cfg.StateDir, "link")),
			os.Symlink("../file", filepath.Join(cfg.StateDir, "filelink")),
		)
		if err != nil {
			t.Fatal(err)
		}
		if got := published(t, cfg, fault("publish", "leave")); got != nil {
			t.Errorf("the module could %v", got)
		}
		if b, err := os.ReadFile(filepath.Join(outside, "file")); err != nil || string(b) != "before" {
			t.Errorf("the file has %q, %v", b, err)
		}
		entries, err := os.ReadDir(outside)
		if err != nil || len(entries) != 3 {
			t.Errorf("outside there is %v, %v", entries, err)
		}
	})
}

// TestMaxFiles: MaxDescriptors bounds the files of an instance, however many
// connections it may have.
func TestMaxFiles(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg Config) {
		cfg.StateDir = t.TempDir()
		cfg.MaxDescriptors = 10
		published(t, cfg, fault("hoard", "5"))
		cfg.ModuleConfig = []byte(fault("hoard", "50").String())
		l, err := Listen(t.Context(), cfg, loopback(t))
		if err == nil {
			t.Errorf("50 files are open, with a limit of %d descriptors", cfg.MaxDescriptors)
			l.Close()
		} else if !errors.Is(err, ErrModule) {
			t.Error(err)
		}
	})
}
