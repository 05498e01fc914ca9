package bridgeline

import (
	"reflect"
	"strings"
	"testing"
	"unicode"

	"waterproxy/transport"
)

const hex = "0123456789ABCDEF0123456789ABCDEF01234567"

func TestParse(t *testing.T) {
	obfs4 := Line{"obfs4", "192.0.2.1:443", hex, transport.Args{"cert": {"a/b+c"}, "iat-mode": {"0"}}}
	for text, want := range map[string]Line{
		"Bridge obfs4 192.0.2.1:443 " + hex + " cert=a/b+c iat-mode=0":                       obfs4,
		"  bridge\tobfs4  192.0.2.1:443 $" + strings.ToLower(hex) + " iat-mode=0 cert=a/b+c": obfs4,
		"obfs4 [2001:db8::1]:1":              {"obfs4", "[2001:db8::1]:1", "", nil},
		"x bridge.example:65535 k=v=w k= k=": {"x", "bridge.example:65535", "", transport.Args{"k": {"v=w", "", ""}}},
	} {
		got, err := Parse(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
		again, err := Parse(got.String())
		if err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%q, written as %q: %+v, %v", text, got, again, err)
		}
	}
	if got, want := obfs4.String(), "Bridge obfs4 192.0.2.1:443 "+hex+" cert=a/b+c iat-mode=0"; got != want {
		t.Errorf("written as %q, want %q", got, want)
	}
}

// A line is good however it was pasted.
func TestParsePasted(t *testing.T) {
	good := "obfs4 192.0.2.1:443 " + hex + " cert=a/b+c iat-mode=0"
	want, err := Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`"` + good + `"`, `'` + good + `'`, "`" + good + "`", "```" + good + "```",
		"“" + good + "”", "„" + good + "“", "‘" + good + "’", "«\u00a0" + good + "\u00a0»", "＂" + good + "＂",
		`"'` + good + `'"`, `'obfs4 192.0.2.1:443 ` + hex + ` "cert=a/b+c" iat-mode='0''`, `"Bridge ` + good + `"`, `Bridge "` + good + `"`, `"` + good, good + `"`, good + "”",
		" " + good + "\u00a0", "\u200b" + good + "\ufeff\r\n", "\ufeff\"" + good + "\n\"",
		strings.ReplaceAll(good, " ", "\u00a0"), strings.ReplaceAll(good, " ", "\t\u2009 "), strings.ReplaceAll(good, "a/b", "a/\u00adb"),
		"Bridge: " + good, "bridge:" + good, "BRIDGE " + good,
		`obfs4 192.0.2.1:443 ` + hex + ` "cert=a/b+c" 'iat-mode=0'`,
		`obfs4 192.0.2.1:443 ` + hex + ` "cert=a/b+c iat-mode=0"`,
		`obfs4 192.0.2.1:443 ` + hex + ` 'cert=a/b+c iat-mode=0'`,
		`obfs4 192.0.2.1:443 ` + hex + ` cert="a/b+c" iat-mode='0'`,
		`obfs4 192.0.2.1:443 ` + hex + " cert=“a/b+c” iat-mode=`0`",
		`"obfs4" "192.0.2.1:443" '` + hex + `' "" cert=a/b+c iat-mode=0`,
	} {
		if got, err := Parse(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	// What may be part of a value stays there.
	for text, want := range map[string]string{
		"x 192.0.2.1:1 k=it's": "it's", "x 192.0.2.1:1 k=its'": "its'", "x 192.0.2.1:1 k='its": "'its", "'x 192.0.2.1:1 k=it's'": "it's", "x 192.0.2.1:1 k=a`b": "a`b",
	} {
		if got, err := Parse(text); err != nil || got.Args["k"][0] != want {
			t.Errorf("%q: %+v, %v; want %q", text, got, err, want)
		}
	}
}

// Errors name what is wrong and what is expected.
func TestParseSays(t *testing.T) {
	for text, want := range map[string]string{
		"obfs4 192.0.2.1:443 cert=x\nobfs4 192.0.2.2:443 cert=y": "more than one line",
		"obfs4 192.0.2.1:443\u2028cert=x":                        "more than one line",
		"192.0.2.1:443 " + hex:                                   "names no transport",
		"Bridge [2001:db8::1]:443":                               "names no transport",
		"192.0.2.1":                                              "names no transport",
		"obfs4":                                                  "TRANSPORT ADDRESS:PORT",
		"ob-fs 192.0.2.1:443":                                    `"ob-fs" is no transport's name`,
		"obfs4 192.0.2.1":                                        "HOST:PORT, as 192.0.2.1:443",
		"obfs4 192.0.2.1:443 cert":                               `"cert" is neither`,
		"obfs4 192.0.2.1:443 -socks x":                           "flags come before",
		"obfs4 192.0.2.1:443 cert=\x1b[2J":                       `"cert=\x1b[2J" has a control character`,
		"obfs4 192.0.2.1:443 " + strings.Repeat("x", 1000):       strings.Repeat("x", 60) + `..." is neither`,
	} {
		l, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %q", text, l, err, want)
		} else if strings.ContainsAny(err.Error(), "\x1b\n") || len(err.Error()) > 400 {
			t.Errorf("%q: the error is %q", text, err)
		}
	}
}

func TestIsLine(t *testing.T) {
	for text, want := range map[string]bool{
		"obfs4 192.0.2.1:443": true, `"Bridge obfs4"`: true, "bridge": true, "192.0.2.1:443 " + hex: true, "obfs4 cert=x": true,
		"obfs4 192.0.2.1": true, "ob-fs 192.0.2.1:443": true, "a\nb": true, "obfs4": false, "m.toml": false, "/etc/waterproxy": false, "a.wasm b.toml": false, "": false, `C:\m.wasm`: false,
	} {
		if IsLine(text) != want {
			t.Errorf("%q is a bridge line: %v", text, !want)
		}
	}
}

func TestCheckListenAddress(t *testing.T) {
	for _, good := range []string{"127.0.0.1:0", ":443", "[::1]:1080", "localhost:65535", "0.0.0.0:https"} {
		if err := CheckListenAddress(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "127.0.0.1", "1080", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:x", "::1:1080"} {
		if err := CheckListenAddress(bad); err == nil {
			t.Errorf("%s can be listened at", bad)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "Bridge", "obfs4", "Bridge obfs4", "192.0.2.1:443 " + hex, "ob-fs 192.0.2.1:443", "obfs4 192.0.2.1",
		"obfs4 192.0.2.1:0", "obfs4 192.0.2.1:65536", "obfs4 192.0.2.1:https", "obfs4 :443", "obfs4 2001:db8::1:443",
		"obfs4 192.0.2.1:443 " + hex[1:], "obfs4 192.0.2.1:443 cert=x " + hex, "obfs4 192.0.2.1:443 =x",
	} {
		if l, err := Parse(text); err == nil {
			t.Errorf("%q: %+v", text, l)
		}
	}
}

// FuzzBridgeLine: a line that is taken is written and read again as the same, and an error
// has nothing in it that a terminal would not show.
func FuzzBridgeLine(f *testing.F) {
	f.Add("Bridge obfs4 192.0.2.1:443 0123456789ABCDEF0123456789ABCDEF01234567 cert=a iat-mode=0")
	f.Add("\u201cplain [2001:db8::1]:1\u201d k=v\u200b")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Parse(s)
		if err != nil {
			if text := err.Error(); strings.ContainsFunc(text, unicode.IsControl) {
				t.Errorf("%q: the error is %q", s, text)
			}
			return
		}
		again, err := Parse(l.String())
		if err != nil || !reflect.DeepEqual(again, l) {
			t.Errorf("%q is %+v, which is written as %q and read as %+v, %v", s, l, l.String(), again, err)
		}
	})
}
