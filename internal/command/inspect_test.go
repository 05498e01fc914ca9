package command

import (
	"path/filepath"
	"strings"
	"testing"

	"waterproxy/transport/testmodules"
)

// One instance of this module carries many connections, and there must be only one.
func TestInspectMany(t *testing.T) {
	var out strings.Builder
	if err := inspect(&out, filepath.Join("..", "..", "modules", "built", "mux.wasm"), nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"many connections  client, fixed client, server\n", " single instance: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &out)
		}
	}
}

// Every file that is no good is an error and no crash.
func TestInspectUnusable(t *testing.T) {
	for _, name := range testmodules.Names(t, "bad_") {
		var out strings.Builder
		if err := inspect(&out, testmodules.Path(name), nil); err == nil {
			t.Errorf("%s: no error; the report is\n%s", name, &out)
		} else if !strings.Contains(out.String(), "SHA-256") {
			t.Errorf("%s: the report lacks the checksum: %q", name, &out)
		}
	}
}
