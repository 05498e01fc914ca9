package ptargs

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]map[string][]string{
		"":                     {},
		"a=b":                  {"a": {"b"}},
		"a=1;b=2;a=3":          {"a": {"1", "3"}, "b": {"2"}},
		`cert=x=y;k\==\;\\`:    {"cert": {"x=y"}, "k=": {`;\`}},
		"a=":                   {"a": {""}},
		"a=line\nbreak;b=\x00": {"a": {"line\nbreak"}, "b": {"\x00"}},
	} {
		got, err := Parse(text)
		if err != nil || !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"a", "=b", "a=b;", ";", `a=b\`, "a=b;c"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`a=b;c=\;\=`)
	f.Fuzz(func(t *testing.T, s string) {
		args, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(Format(args))
		if err != nil || !maps.EqualFunc(args, again, slices.Equal) {
			t.Errorf("%q is %q, which is written as %q and read as %q, %v", s, args, Format(args), again, err)
		}
	})
}

func TestParseSMETHOD(t *testing.T) {
	got, err := ParseSMETHOD(`cert=ab+c/;x,iat-mode=0,k=a\,b`)
	want := map[string][]string{"cert": {"ab+c/;x"}, "iat-mode": {"0"}, "k": {"a,b"}}
	if err != nil || !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if got, err := ParseSMETHOD("a=1,"); err == nil {
		t.Errorf("a comma at the end: %v, want an error", got)
	}
}

// goptlib reads what tor writes into the variable.
func TestFormatOptions(t *testing.T) {
	args := map[string][]string{"a": {"1:2", ""}, "b=": {`x;y\`}}
	if got, want := FormatOptions("obfs4", args), `obfs4:a=1\:2;obfs4:a=;obfs4:b\==x\;y\\`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestCredentials(t *testing.T) {
	for _, test := range []struct {
		length         int // of the value
		user, password int // lengths
		bad            bool
	}{
		{1, 3, 1, false}, {253, 255, 1, false}, {254, 255, 1, false}, {508, 255, 255, false}, {509, 0, 0, true},
	} {
		value := strings.Repeat("x", test.length)
		user, password, err := Credentials(map[string][]string{"k": {value}})
		if len(user) != test.user || len(password) != test.password || (err != nil) != test.bad {
			t.Errorf("%d bytes: %d and %d, %v", test.length, len(user), len(password), err)
		}
		if text := "k=" + value; err == nil && user+password != text && user+password != text+"\x00" {
			t.Errorf("%d bytes: %q and %q", test.length, user, password)
		}
	}
	if user, password, err := Credentials(nil); user != "" || password != "" || err != nil {
		t.Errorf("none: %q and %q, %v", user, password, err)
	}
}

func TestCheckName(t *testing.T) {
	for name, good := range map[string]bool{"obfs4": true, "_": true, "A_1": true, "": false, "4obfs": false, "a-b": false, "a b": false, "é": false} {
		if err := CheckName(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
