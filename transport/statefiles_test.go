package transport

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestStateFiles: in a directory that a module shares with others there are for it the
// files that it was granted, whether or not they exist yet, and nothing else.
func TestStateFiles(t *testing.T) {
	const refused, missing = "errno:76", "errno:44" // ENOTCAPABLE, ENOENT
	orders := []struct{ order, want string }{
		{"list", "granted"},
		{"read granted", "old"},
		{"stat granted", "ok"},
		{"read later", missing},
		{"read secret", refused},
		{"stat secret", refused},
		{"write secret", refused},
		{"remove secret", refused},
		{"rename secret later", refused},
		{"rename granted secret", refused},
		{"rename granted other", refused},
		{"write other", refused},
		{"mkdir other", refused},
		{"stat directory", refused},
		{"read directory/granted", refused},
		{"write directory/granted", refused},
		{"remove directory", refused},
		{"write granted/../secret", refused}, // which the module's own library cleans
		{"write later", "ok"},
		{"read later", "written"},
		{"list", "granted+later"},
		{"rename later granted", "ok"},
		{"read granted", "written"},
		{"remove granted", "ok"},
		{"list", ""},
		{"write granted", "ok"},
	}
	var script strings.Builder
	for _, o := range orders {
		fmt.Fprintln(&script, o.order)
	}
	for _, name := range []string{"go/files", "go/files" + inOne} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, name)
			cfg.ModuleConfig = []byte(script.String())
			cfg.StateDir, cfg.StateFiles = t.TempDir(), []string{"granted", "later"}
			at := func(name string) string { return filepath.Join(cfg.StateDir, filepath.FromSlash(name)) }
			if err := os.Mkdir(at("directory"), 0o700); err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{"granted": "old", "secret": "secret", "directory/granted": "secret"} {
				if err := os.WriteFile(at(file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			results := listen(t, cfg).Args()["result"]
			if len(results) != len(orders) {
				t.Fatalf("%d results of %d orders: %q", len(results), len(orders), results)
			}
			for i, o := range orders {
				if results[i] != o.want {
					t.Errorf("%s: %q, want %q", o.order, results[i], o.want)
				}
			}
			for file, want := range map[string]string{"granted": "written", "secret": "secret", "directory/granted": "secret"} {
				if text, err := os.ReadFile(at(file)); err != nil || string(text) != want {
					t.Errorf("%s has %q (%v), want %q", file, text, err, want)
				}
			}
			entries, err := os.ReadDir(cfg.StateDir)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			if want := []string{"directory", "granted", "secret"}; err != nil || !slices.Equal(names, want) {
				t.Errorf("the directory has %q (%v), want %q", names, err, want)
			}
		})
	}
}

// TestNoStateFiles: an empty list grants nothing, other than no list.
func TestNoStateFiles(t *testing.T) {
	for _, test := range []struct {
		files []string
		want  string
	}{{nil, "ok"}, {[]string{}, "errno:76"}} {
		cfg := testConfig(t, "go/files"+inOne)
		cfg.ModuleConfig = []byte("write file\n")
		cfg.StateDir, cfg.StateFiles = t.TempDir(), test.files
		if got := listen(t, cfg).Args()["result"]; !slices.Equal(got, []string{test.want}) {
			t.Errorf("with the list %#v a file is written: %q, want %q", test.files, got, test.want)
		}
	}
}
