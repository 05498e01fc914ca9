package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	library "gitlab.com/yawning/obfs4.git/transports/obfs4"
	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/watm"
)

// goodState is what the library writes, but for the public key, which it does not
// read.
var goodState = fmt.Sprintf(`{"node-id":%q,"private-key":%q,"public-key":"","drbg-seed":%q,"iat-mode":0}`, goodID, goodKey, goodSeed)

// newStateDir returns a directory with that state.
func newStateDir(t *testing.T, state string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(state), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startServer starts the transport as a server, as far as it comes without a host.
func startServer(dir string, args watm.Args) error {
	return new(obfs4).Start(&watm.Env{Server: true, StateDir: dir, Args: args})
}

// TestDamagedState: a server does not start with a state file that is not whole,
// whatever its arguments are, and does not touch the file.
func TestDamagedState(t *testing.T) {
	keys := watm.Args{"node-id": {goodID}, "private-key": {goodKey}, "drbg-seed": {goodSeed}}
	for name, damaged := range map[string]string{
		"empty":              "",
		"truncated":          goodState[:len(goodState)/2],
		"without its end":    goodState[:len(goodState)-1],
		"no JSON":            "node-id=" + goodID,
		"another JSON":       "[]",
		"null":               "null",
		"no fields":          "{}",
		"longer":             goodState + goodState,
		"a short node-id":    strings.Replace(goodState, goodID, goodID[2:], 1),
		"a long private-key": strings.Replace(goodState, goodKey, goodKey+"00", 1),
		"an odd private-key": strings.Replace(goodState, goodKey, goodKey[1:], 1),
		"no hexadecimal":     strings.Replace(goodState, goodSeed, "xx"+goodSeed[2:], 1),
		"no drbg-seed":       strings.Replace(goodState, "drbg-seed", "seed", 1),
		"iat-mode 3":         strings.Replace(goodState, `"iat-mode":0`, `"iat-mode":3`, 1),
		"iat-mode -1":        strings.Replace(goodState, `"iat-mode":0`, `"iat-mode":-1`, 1),
		"iat-mode as text":   strings.Replace(goodState, `"iat-mode":0`, `"iat-mode":"0"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			if damaged == goodState {
				t.Fatal("there is no damage")
			}
			for _, args := range []watm.Args{nil, keys} {
				dir := newStateDir(t, damaged)
				err := startServer(dir, args)
				if err == nil || !strings.Contains(err.Error(), stateFile) || !strings.Contains(err.Error(), "move it away") {
					t.Errorf("%v, which does not name the file and say what to do", err)
				}
				for _, secret := range []string{goodKey[2:], goodSeed[2:]} {
					if strings.Contains(fmt.Sprint(err), secret) {
						t.Errorf("%q quotes the file", err)
					}
				}
				left, err := os.ReadDir(dir)
				if err != nil || len(left) != 1 {
					t.Errorf("%v, %v are in the directory, want the state alone", left, err)
				}
				if now, err := os.ReadFile(filepath.Join(dir, stateFile)); err != nil || !bytes.Equal(now, []byte(damaged)) {
					t.Errorf("the file is %q now (%v), and was %q", now, err, damaged)
				}
			}
		})
	}
}

// TestWrittenWhole: files are never written in place, nor if nothing changes, and what a
// killed process has left is removed.
func TestWrittenWhole(t *testing.T) {
	dir := newStateDir(t, goodState)
	file := filepath.Join(dir, stateFile)
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	// start returns what the file was, by another name, and what it is.
	start := func(args watm.Args) (before, after os.FileInfo, was string) {
		t.Helper()
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Link(file, link); err != nil {
			t.Fatal(err)
		}
		scratch := filepath.Join(dir, scratchDir)
		if err := os.Mkdir(scratch, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(scratch, stateFile), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		// Without a host it fails once it has its keys.
		if err := startServer(dir, args); err != nil && !strings.Contains(err.Error(), "host") {
			t.Fatal(err)
		}
		if _, err := os.Stat(scratch); !os.IsNotExist(err) {
			t.Errorf("the directory for new files: %v", err)
		}
		before, err := os.Stat(link)
		if err != nil {
			t.Fatal(err)
		}
		if after, err = os.Stat(file); err != nil {
			t.Fatal(err)
		}
		return before, after, read(link)
	}
	start(nil) // adds the public key
	settled := read(file)
	if before, after, _ := start(nil); !os.SameFile(before, after) {
		t.Error("a file was replaced by an equal one")
	}
	before, after, was := start(watm.Args{"iat-mode": {"1"}})
	if os.SameFile(before, after) || was != settled {
		t.Errorf("the file was written in place: it was %q, and is %q", settled, was)
	}
	if now := read(file); now != strings.Replace(settled, `"iat-mode":0`, `"iat-mode":1`, 1) {
		t.Errorf("the state is %q, and was %q", now, settled)
	}
}

// TestNoState: without a directory there is nowhere for the keys.
func TestNoState(t *testing.T) {
	if err := startServer("", nil); err != errNoState {
		t.Errorf("got %v, want %v", err, errNoState)
	}
}

// TestUnreadableState: a file that is there and cannot be read is not replaced.
func TestUnreadableState(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, stateFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := startServer(dir, nil); err == nil || !strings.Contains(err.Error(), stateFile) {
		t.Errorf("%v, which does not name the file", err)
	}
}

// TestCloseDelay: a bridge keeps connections open after a bad handshake for as long as
// the library would with the same seed, whose field we can only read by reflection.
func TestCloseDelay(t *testing.T) {
	seen := map[time.Duration]bool{}
	for i := range 50 {
		seed := fmt.Sprintf("%048x", i)
		dir := newStateDir(t, strings.Replace(goodState, goodSeed, seed, 1))
		server, err := new(library.Transport).ServerFactory(dir, &pt.Args{})
		if err != nil {
			t.Fatal(err)
		}
		field := reflect.ValueOf(server).Elem().FieldByName("closeDelay")
		if !field.IsValid() {
			t.Fatal("the library has no field closeDelay any more")
		}
		want := serverTimeout + time.Duration(field.Int())*time.Second
		st, err := keepState(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := st.closeDelay(); got != want {
			t.Errorf("with the seed %s it is %v, and the library has %v", seed, got, want)
		}
		seen[st.closeDelay()] = true
	}
	if len(seen) < 10 {
		t.Errorf("50 seeds make only %d delays", len(seen))
	}
}

// TestSameState: what the library makes of a state, we make of it, and the other way
// round: the same certificate, and the same file.
func TestSameState(t *testing.T) {
	read := func(dir string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, stateFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	ours, theirs := t.TempDir(), t.TempDir()
	st, err := keepState(ours, watm.Args{"iat-mode": {"2"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(theirs, stateFile), []byte(read(ours)), 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := new(library.Transport).ServerFactory(theirs, &pt.Args{})
	if err != nil {
		t.Fatal(err)
	}
	if cert, _ := server.Args().Get("cert"); cert != st.bridge.cert() {
		t.Errorf("the certificate is %q, and the library's %q", st.bridge.cert(), cert)
	}
	if mode, _ := server.Args().Get("iat-mode"); mode != "2" {
		t.Errorf("the library has iat-mode %q", mode)
	}
	if read(theirs) != read(ours) {
		t.Errorf("the library writes %s, and we %s", read(theirs), read(ours))
	}
	// A state that the library has made.
	fresh := t.TempDir()
	if server, err = new(library.Transport).ServerFactory(fresh, &pt.Args{}); err != nil {
		t.Fatal(err)
	}
	before := read(fresh)
	if st, err = keepState(fresh, nil); err != nil {
		t.Fatal(err)
	}
	if cert, _ := server.Args().Get("cert"); cert != st.bridge.cert() || read(fresh) != before {
		t.Errorf("we take over the certificate %q as %q, and the file %s as %s", cert, st.bridge.cert(), before, read(fresh))
	}
}
