package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waterproxy/watm"
)

func args(pairs ...string) watm.Args {
	a := watm.Args{}
	for i := 0; i < len(pairs); i += 2 {
		a[pairs[i]] = []string{pairs[i+1]}
	}
	return a
}

// Errors end up in logs: they name the argument, and not its value.
func TestBadArguments(t *testing.T) {
	client := new(shadowsocks).CheckArgs
	server := func(a watm.Args) error { return new(shadowsocks).Start(&watm.Env{Server: true, Args: a}) }
	for _, test := range []struct {
		name   string
		start  func(watm.Args) error
		args   watm.Args
		named  string
		secret string
	}{
		{"client, no password", client, args(), "password", ""},
		{"client, empty password", client, args("password", ""), "password", ""},
		{"client, unknown cipher", client, args("password", "hidden", "cipher", "rot13"), "cipher", "rot13"},
		{"client, a cipher without authentication", client, args("password", "hidden", "cipher", "aes-256-cfb"), "cipher", "aes-256-cfb"},
		{"client, no key in base64", client, args("password", "hidden!", "cipher", "2022-blake3-aes-128-gcm"), "password", "hidden!"},
		{"client, a key too short", client, args("password", "aGlkZGVu", "cipher", "2022-blake3-aes-128-gcm"), "password", "aGlkZGVu"},
		{"client, a key too long", client, args("password", passwordOf(&methods[4]), "cipher", "2022-blake3-aes-128-gcm"), "password", "Bwc"},
		{"client, keys for many users", client, args("password", "AAAA:BBBB", "cipher", "2022-blake3-aes-128-gcm"), "password", "AAAA"},
		{"client, target without a port", client, args("password", "hidden", "target", "192.0.2.7"), "target", "192.0.2.7"},
		{"client, target without a host", client, args("password", "hidden", "target", ":443"), "target", "443"},
		{"client, port 0", client, args("password", "hidden", "target", "192.0.2.7:0"), "target", "192.0.2.7"},
		{"client, port too large", client, args("password", "hidden", "target", "192.0.2.7:65536"), "target", "65536"},
		{"client, bare IPv6", client, args("password", "hidden", "target", "2001:db8::7:443"), "target", "2001"},
		{"client, long name", client, args("password", "hidden", "target", strings.Repeat("x", 256)+":1"), "target", "xxx"},
		{"client, the cipher called method", client, args("password", "hidden", "method", "aes-128-gcm"), "cipher", "aes-128"},
		{"client, a prefix that is not URL-encoded", client, args("password", "hidden", "prefix", "PO%ST"), "prefix", "PO%ST"},
		{"client, an empty prefix", client, args("password", "hidden", "prefix", ""), "prefix", ""},
		{"client, a prefix that is no bytes", client, args("password", "hidden", "prefix", "%A8xyz"), "prefix", "xyz"},
		{"client, a prefix of 23 bytes", client, args("password", "hidden", "prefix", strings.Repeat("q", 23)), "prefix", "qqq"},
		{"client, a prefix longer than a salt", client, args("password", "hidden", "prefix", strings.Repeat("%p", 33)), "prefix", "%p"},
		{"client, a prefix of 7 bytes of 16", client, args("password", "hidden", "cipher", "aes-128-gcm", "prefix", "qqqqqqq"), "prefix", "qqq"},
		{"server, a bad prefix", server, args("password", "hidden", "prefix", "PO%ST"), "prefix", "PO%ST"},
		{"server, a long prefix", server, args("password", "hidden", "prefix", strings.Repeat("q", 23)), "prefix", "qqq"},
		{"server, no password", server, args(), "password", ""},
		{"server, empty password", server, args("password", ""), "password", ""},
		{"server, unknown cipher", server, args("password", "hidden", "cipher", "rot13"), "cipher", "rot13"},
		{"server, a comma in the password", server, args("password", "hid,den"), "password", "hid"},
		{"server, an equal sign in the password", server, args("password", "aGlk=="), "password", "aGlk"},
		{"server, a backslash in the password", server, args("password", `hid\den`), "password", "hid"},
		{"server, a space in the password", server, args("password", "hid den"), "password", "hid"},
		{"server, a number sign in the password", server, args("password", "hid#den"), "password", "hid"},
		{"server, a letter beyond ASCII in the password", server, args("password", "hidé"), "password", "hid"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.start(test.args)
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error()
			if !strings.Contains(text, "the argument "+test.named+" ") {
				t.Errorf("%q does not name the argument %s", text, test.named)
			}
			for _, secret := range []string{test.secret, "hidden"} {
				if secret != "" && strings.Contains(text, secret) {
					t.Errorf("%q has the value in it", text)
				}
			}
		})
	}
}

func TestClientHeader(t *testing.T) {
	for target, want := range map[string]string{
		"192.0.2.7:443":     "\x01\xc0\x00\x02\x07\x01\xbb",
		"[2001:db8::7]:258": "\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x01\x02",
		"example.com:80":    "\x03\x0bexample.com\x00\x50",
	} {
		got, err := clientAddress(args("target", target))
		if err != nil || !bytes.Equal(got, []byte(want)) {
			t.Errorf("%s: %q, %v; want %q", target, got, err, want)
		}
	}
	got, err := clientAddress(args())
	if want := "\x03\x0eorport.invalid\x23\x29"; err != nil || string(got) != want {
		t.Errorf("no target: %q, %v; want %q", got, err, want)
	}
}

func TestServerArgs(t *testing.T) {
	dir := t.TempDir()
	given := &watm.Env{Server: true, Args: args("password", "s3cret/+:;", "cipher", "aes-128-gcm"), StateDir: dir}
	got, err := serverArgs(given)
	if want := "cipher=aes-128-gcm;password=s3cret/+:\\;"; err != nil || got.String() != want {
		t.Errorf("%v, %v; want %s", got, err, want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("with a password given, the state directory has %v, %v", left, err)
	}

	given.Args["prefix"] = []string{"GET /%p"}
	got, err = serverArgs(given)
	if want := "cipher=aes-128-gcm;password=s3cret/+:\\;;prefix=GET%20%2F%p"; err != nil || got.String() != want {
		t.Errorf("%v, %v; want %s", got, err, want)
	}

	env := &watm.Env{Server: true, Args: args(), StateDir: dir}
	first, err := serverArgs(env)
	if err != nil {
		t.Fatal(err)
	}
	if cipher, _ := first.Get("cipher"); cipher != "chacha20-ietf-poly1305" {
		t.Errorf("the cipher is %q", cipher)
	}
	if password, _ := first.Get("password"); len(password) != 32 || !fitsBridgeLine(password) {
		t.Errorf("the password is %q", password)
	}
	second, err := serverArgs(env)
	if err != nil || second.String() != first.String() {
		t.Errorf("the first start had %v, the second one %v, %v", first, second, err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("the state directory has %v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password's file is %v, %v", info.Mode(), err)
	}
	other, err := serverArgs(&watm.Env{Server: true, Args: args(), StateDir: t.TempDir()})
	if err != nil || other.String() == first.String() {
		t.Errorf("two servers have made %v and %v, %v", first, other, err)
	}
}

// A server of the 2022 edition makes keys of the right length, keeps each, and publishes
// what a bridge line can carry; so does one that was given a key with padding.
func TestServerKeys(t *testing.T) {
	dir := t.TempDir()
	for _, m := range methods[3:] {
		env := &watm.Env{Server: true, Args: args("cipher", m.name), StateDir: dir}
		first, err := serverArgs(env)
		if err != nil {
			t.Fatal(err)
		}
		again, err := serverArgs(env)
		if err != nil || again.String() != first.String() {
			t.Errorf("%s: %v and %v, %v", m.name, first, again, err)
		}
		if key, err := newKey(first); err != nil || len(key.key) != m.keySize {
			t.Errorf("%s: %v", m.name, err)
		}
		given := &watm.Env{Server: true, Args: args("cipher", m.name, "password", passwordOf(&m)), StateDir: dir}
		published, err := serverArgs(given)
		if password, _ := published.Get("password"); err != nil || !fitsBridgeLine(password) {
			t.Errorf("%s publishes %v, %v", m.name, published, err)
		}
		one, err1 := newKey(published)
		two, err2 := newKey(given.Args)
		if err1 != nil || err2 != nil || !bytes.Equal(one.key, two.key) {
			t.Errorf("%s: the key that is published is another one: %v, %v", m.name, err1, err2)
		}
	}
}

func TestDamagedPasswordFile(t *testing.T) {
	for _, text := range []string{"", "\n", "two words\n", "a=b\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, methods[0].passwordFile()), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := methods[0].keptPassword(dir); err == nil || !strings.Contains(err.Error(), "the file password") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// An error of the file system names no path.
func TestUnreadablePasswordFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, methods[0].passwordFile()), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := methods[0].keptPassword(dir); err == nil || strings.Contains(err.Error(), dir) {
		t.Errorf("a directory in its place: %v", err)
	}
	if _, err := methods[0].keptPassword(filepath.Join(dir, "missing")); err == nil || strings.Contains(err.Error(), dir) {
		t.Errorf("no state directory: %v", err)
	}
}
