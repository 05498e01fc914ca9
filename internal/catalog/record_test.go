package catalog

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"waterproxy/transport"
)

// A record is good for the transport as it was, and for nothing else.
func TestRecord(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "m.wasm")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("m.wasm", "1")
	write("m.cfg", "1")
	fill := func(state string) *Catalog {
		t.Helper()
		c := &Catalog{StateDir: state}
		for _, err := range []error{c.AddModule("m=" + file), c.AddConfig("m=" + filepath.Join(dir, "m.cfg")), c.AddState("m")} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	state := filepath.Join(dir, "state")
	c := fill(state)
	args := transport.Args{"mode": {"1"}}
	published := transport.Args{"key": {"abc"}}
	remember := func() {
		t.Helper()
		c.Remember("m", transport.RoleServer, args, published)
		if got, ok := c.Started("m", transport.RoleServer, args); !ok || !reflect.DeepEqual(got, published) {
			t.Fatalf("it has started with %v, %v", got, ok)
		}
	}
	for name, change := range map[string]func(){
		"module":        func() { write("m.wasm", "22") },
		"touched":       func() { os.Chtimes(file, time.Time{}, time.Unix(1, 0)) },
		"configuration": func() { write("m.cfg", "22") },
		"arguments":     func() { args = transport.Args{"mode": {"2"}} },
		"addresses":     func() { c.AddAllow("m=192.0.2.1:80") },
		"instances":     func() { c.AddInstances("m=each") },
		"state": func() {
			os.MkdirAll(filepath.Join(state, "modules", "m"), 0o700)
			write("state/modules/m/key", "x")
		},
		"broken record": func() { write("state/started/m-server.json", "x") },
		"no module":     func() { os.Remove(file) },
	} {
		c = fill(state)
		write("m.wasm", "1")
		remember()
		if _, ok := c.Started("m", transport.RoleClient, args); ok {
			t.Error("it has started as a client")
		}
		change()
		if got, ok := c.Started("m", transport.RoleServer, args); ok {
			t.Errorf("%s: it has started with %v", name, got)
		}
	}
}

// So is one of a directory, where settings may come and go.
func TestRecordInDir(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := func(text string) {
		t.Helper()
		write("m.toml", text)
	}
	for name, change := range map[string]func(){
		"module":        func() { write("m.wasm", "22") },
		"settings":      func() { settings("config = \"m.cfg\"\nstate = true\ninstances = 2") },
		"no settings":   func() { os.Remove(filepath.Join(dir, "m.toml")) },
		"broken":        func() { settings("nonsense") },
		"configuration": func() { write("m.cfg", "22") },
		"state": func() {
			os.MkdirAll(filepath.Join(state, "modules", "m"), 0o700)
			os.WriteFile(filepath.Join(state, "modules", "m", "key"), nil, 0o600)
		},
	} {
		c := &Catalog{Dir: dir, StateDir: state}
		write("m.wasm", "1")
		write("m.cfg", "1")
		settings("config = \"m.cfg\"\nstate = true")
		c.Remember("m", transport.RoleClient, nil, nil)
		if _, ok := c.Started("m", transport.RoleClient, nil); !ok {
			t.Fatal("it is not remembered")
		}
		change()
		if _, ok := c.Started("m", transport.RoleClient, nil); ok {
			t.Errorf("%s: it has started", name)
		}
	}
}

// What a module without state publishes is believed when it does so again.
func TestRecordWithoutState(t *testing.T) {
	c := &Catalog{StateDir: t.TempDir()}
	file := filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.AddModule("m=" + file); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		key  string
		want bool
	}{{"a", false}, {"b", false}, {"b", true}, {"c", false}} {
		published := transport.Args{"key": {step.key}}
		c.Remember("m", transport.RoleServer, nil, published)
		if _, ok := c.Started("m", transport.RoleServer, nil); ok != step.want {
			t.Errorf("step %d: %v, want %v", i, ok, step.want)
		}
	}
	c.Remember("m", transport.RoleClient, nil, nil)
	if _, ok := c.Started("m", transport.RoleClient, nil); !ok {
		t.Error("a client that started is not remembered")
	}
}

// Without a state directory everything is forgotten.
func TestNoRecord(t *testing.T) {
	c := new(Catalog)
	c.Remember("plain", transport.RoleClient, nil, nil)
	if _, ok := c.Started("plain", transport.RoleClient, nil); ok {
		t.Error("something is remembered")
	}
}
