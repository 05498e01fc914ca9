package release

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("x", 201)
	for _, test := range []struct {
		file, custom string
		want         Release
		other        bool   // it is no module
		err          string // part of it
	}{
		{file: "river.wasm", want: Release{Transport: "river"}},
		{file: "v2/river.wasm", custom: `{"version":"1.0"}`, want: Release{Transport: "river", Version: "1.0"}},
		{file: "a.bin", custom: `{"transport":"river","unknown":[1]}`, want: Release{Transport: "river"}},
		{file: "readme.txt", other: true},
		{file: "readme.txt", custom: `{"version":"1"}`, other: true},
		{file: "1river.wasm", err: "no transport name"},
		{file: "../river.wasm", err: "plain relative path"},
		{file: "a/../river.wasm", err: "plain relative path"},
		{file: "/river.wasm", err: "plain relative path"},
		{file: "a//river.wasm", err: "plain relative path"},
		{file: ".a/river.wasm", err: "hidden"},
		{file: "a b/river.wasm", err: "other characters"},
		{file: `a\river.wasm`, err: "other characters"},
		{file: "a%2e/river.wasm", err: "other characters"},
		{file: strings.Repeat("a/", 100) + "river.wasm", err: "between 1 and 200"},
		{file: "river.wasm", custom: `{"version":"1;2"}`, err: "no version"},
		{file: "river.wasm", custom: `{"version":"` + long + `"}`, err: "no version"},
		{file: "river.wasm", custom: `{"description":"a\u001bb"}`, err: "printable"},
		{file: "river.wasm", custom: `{"description":"` + long + `"}`, err: "printable"},
		{file: "river.wasm", custom: `{"minimum":"new"}`, err: "no version such as"},
		{file: "river.wasm", custom: `{"minimum":"1.2.3.4"}`, err: "no version such as"},
		{file: "river.wasm", custom: `{"needs":{"threads":-1}}`, err: "negative"},
		{file: "river.wasm", custom: `{"needs":{"memory":-1}}`, err: "malformed"},
		{file: "river.wasm", custom: `{"needs":{"allow":["a\n"]}}`, err: "no address"},
		{file: "river.wasm", custom: `[]`, err: "malformed"},
	} {
		var custom *json.RawMessage
		if test.custom != "" {
			custom = (*json.RawMessage)(new([]byte(test.custom)))
		}
		got, ok, err := Parse(test.file, custom)
		switch {
		case test.err != "":
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s %s: %v, want %q", test.file, test.custom, err, test.err)
			}
		case err != nil || ok == test.other:
			t.Errorf("%s %s: %v %v", test.file, test.custom, ok, err)
		case ok && (got.Transport != test.want.Transport || got.Version != test.want.Version):
			t.Errorf("%s %s: %+v", test.file, test.custom, got)
		}
	}
}

// TestCustom: what is written of a release is what is read of it.
func TestCustom(t *testing.T) {
	r := Release{
		Transport: "river", Version: "1.4.0", ABI: "v1", Minimum: "0.1", Description: "a line",
		Needs: Needs{HostCrypto: true, Allow: []string{"tcp/192.0.2.1:443"}, State: true, Memory: 1 << 20, Threads: 2},
	}
	custom, err := r.Custom()
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := Parse(Path("river"), custom)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(r)
	b, _ := json.Marshal(got)
	if string(a) != string(b) {
		t.Errorf("%s was read as %s", a, b)
	}
}

func TestRuns(t *testing.T) {
	for _, test := range []struct {
		minimum, version string
		ok               bool
	}{
		{"", "0.1.0", true}, {"0.1.0", "0.1.0", true}, {"0.1", "0.1.0", true}, {"0.2", "0.10.0", true}, {"1", "0.9.9", false}, {"0.1.1", "0.1.0", false},
	} {
		if err := (Release{Minimum: test.minimum}).Runs(test.version); (err == nil) != test.ok {
			t.Errorf("%s by %s: %v", test.minimum, test.version, err)
		}
	}
}
