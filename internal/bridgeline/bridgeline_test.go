package bridgeline

import (
	"reflect"
	"strings"
	"testing"

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
