package control

import (
	"bytes"
	"maps"
	"slices"
	"testing"
)

func TestRecords(t *testing.T) {
	records := []Record{
		{Kind: Open, ID: 7, Value: 5, Payload: OpenPayload(Target("tcp", "192.0.2.1:443"), "k=v")},
		{Kind: Dialed, Request: 1 << 31, Value: -14},
		{Kind: Accept, Flags: Shared, ID: 1<<32 - 1, Request: 3},
	}
	var b []byte
	for _, r := range records {
		b = r.Append(b)
	}
	for _, want := range records {
		r, rest, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(r.Payload, want.Payload) {
			t.Errorf("payload %q, want %q", r.Payload, want.Payload)
		}
		r.Payload, want.Payload, b = nil, nil, rest
		if r.Kind != want.Kind || r.Flags != want.Flags || r.ID != want.ID || r.Request != want.Request || r.Value != want.Value {
			t.Errorf("got %+v, want %+v", r, want)
		}
	}
	if len(b) > 0 {
		t.Errorf("%d bytes are left", len(b))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Record{Kind: Ready, ID: 1}.Append(nil))
	f.Add(Record{Kind: Fail, Payload: make([]byte, MaxRecord)}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := Parse(b)
		if err != nil {
			return
		}
		if again := append(r.Append(nil), rest...); !bytes.Equal(again, b) {
			t.Errorf("%x parses as a record that is written as %x", b, again)
		}
	})
}

func TestArgs(t *testing.T) {
	for text, want := range map[string]map[string][]string{
		"":                     {},
		"a=b":                  {"a": {"b"}},
		"a=1;b=2;a=3":          {"a": {"1", "3"}, "b": {"2"}},
		`cert=x=y;k\==\;\\`:    {"cert": {"x=y"}, "k=": {`;\`}},
		"a=":                   {"a": {""}},
		"a=line\nbreak;b=\x00": {"a": {"line\nbreak"}, "b": {"\x00"}},
	} {
		got, err := ParseArgs(text)
		if err != nil || !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"a", "=b", "a=b;", ";", `a=b\`, "a=b;c"} {
		if got, err := ParseArgs(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func FuzzArgs(f *testing.F) {
	f.Add(`a=b;c=\;\=`)
	f.Fuzz(func(t *testing.T, s string) {
		args, err := ParseArgs(s)
		if err != nil {
			return
		}
		again, err := ParseArgs(FormatArgs(args))
		if err != nil || !maps.EqualFunc(args, again, slices.Equal) {
			t.Errorf("%q is %q, which is written as %q and read as %q, %v", s, args, FormatArgs(args), again, err)
		}
	})
}
