package ptproc

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestNegotiation(t *testing.T) {
	for _, test := range []struct {
		name, output string
		want         []Method
		err          string
	}{
		{name: "client", output: "VERSION 1\nLOG SEVERITY=notice MESSAGE=x\nCMETHOD a socks5 127.0.0.1:1\nCMETHOD b socks5 127.0.0.1:2\nCMETHODS DONE\n",
			want: []Method{{Transport: "a", Address: "127.0.0.1:1"}, {Transport: "b", Address: "127.0.0.1:2"}}},
		{name: "server", output: "VERSION 1\r\nSMETHOD a 127.0.0.1:6 LATER:x ARGS:k=1\\,2,l=\r\nSMETHODS DONE\r\n",
			want: []Method{{Transport: "a", Address: "127.0.0.1:6", Args: map[string][]string{"k": {"1,2"}, "l": {""}}}}},
		{name: "nothing", output: "VERSION 1\nCMETHODS DONE\n"},
		{name: "no version", output: "CMETHOD a socks5 127.0.0.1:2\nCMETHODS DONE\n", err: "version 1"},
		{name: "environment", output: "ENV-ERROR no state\n", err: "ENV-ERROR no state"},
		{name: "version error", output: "VERSION-ERROR no-version\n", err: "VERSION-ERROR no-version"},
		{name: "proxy error", output: "VERSION 1\nPROXY-ERROR no\n", err: "PROXY-ERROR no"},
		{name: "old SOCKS", output: "VERSION 1\nCMETHOD a socks4 127.0.0.1:2\nCMETHODS DONE\n", err: "socks5"},
		{name: "no address", output: "VERSION 1\nSMETHOD a\nSMETHODS DONE\n", err: "address"},
		{name: "no name", output: "VERSION 1\nSMETHOD\nSMETHODS DONE\n", err: "name"},
		{name: "wrong name", output: "VERSION 1\nSMETHOD a-b 127.0.0.1:1\nSMETHODS DONE\n", err: "name"},
		{name: "wrong arguments", output: "VERSION 1\nSMETHOD a 127.0.0.1:1 ARGS:k\nSMETHODS DONE\n", err: "argument"},
		{name: "not done", output: "VERSION 1\nSMETHODS\n", err: "DONE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := NewNegotiation()
			// In pieces of one byte, as a pipe may deliver it.
			for _, c := range []byte(test.output + "ENV-ERROR afterwards\n") {
				n.Write([]byte{c})
			}
			got, at, err := n.Methods()
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("the error is %v, want %q", err, test.err)
				}
				return
			}
			equal := func(a, b Method) bool {
				return a.Transport == b.Transport && a.Address == b.Address && maps.EqualFunc(a.Args, b.Args, slices.Equal) && a.Err == nil
			}
			if err != nil || at.IsZero() || !slices.EqualFunc(got, test.want, equal) {
				t.Errorf("%+v, %v, %v; want %+v", got, at, err, test.want)
			}
		})
	}
}

// The others may be offered although one could not be started.
func TestMethodError(t *testing.T) {
	n := NewNegotiation()
	n.Write([]byte("VERSION 1\nCMETHOD-ERROR a no such thing\nCMETHOD b socks5 127.0.0.1:1\nCMETHODS DONE\n"))
	methods, _, err := n.Methods()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Find(methods, "a"); err == nil || err.Error() != "CMETHOD-ERROR a no such thing" {
		t.Errorf("a: %v", err)
	}
	if m, err := Find(methods, "b"); err != nil || m.Address != "127.0.0.1:1" {
		t.Errorf("b: %+v, %v", m, err)
	}
	if _, err := Find(methods, "c"); err == nil {
		t.Error("c is not offered, and there is no error")
	}
}

func FuzzNegotiation(f *testing.F) {
	f.Add([]byte("VERSION 1\nCMETHOD a socks5 127.0.0.1:1\nCMETHODS DONE\n"))
	f.Add([]byte("SMETHOD a 127.0.0.1:1 ARGS:a=b\n"))
	f.Fuzz(func(t *testing.T, output []byte) {
		n := NewNegotiation()
		n.Write(append(output, "\nENV-ERROR end\n"...))
		methods, _, err := n.Methods() // in any case there is an end
		for _, m := range methods {
			if err == nil && m.Transport == "" {
				t.Errorf("%q: a method without a name", output)
			}
		}
	})
}

// A line that does not end is not kept as a whole, and of many lines the last.
func TestLinesAreBounded(t *testing.T) {
	l := &Lines{Keep: 3}
	for range 1000 {
		l.Write(bytes.Repeat([]byte("x"), 1000))
	}
	if all := l.All(); len(all) != 4 || len(strings.Join(all, "")) > 4*maxLine+4000 {
		t.Errorf("%d lines of %d bytes are kept", len(all), len(strings.Join(all, "")))
	}
	l.Write([]byte("\na\nb\nc\nd"))
	if got := strings.Join(l.All(), " "); got != "a b c d" {
		t.Errorf("%q is kept", got)
	}
}
