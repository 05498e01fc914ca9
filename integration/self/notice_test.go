package self

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// NOTICE names each Go module that is in the executable or in a module built into it.
func TestNotice(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "NOTICE"))
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{}
	for _, word := range strings.Fields(string(text)) {
		words[word] = true
	}
	for packages, system := range map[string][]string{
		".":             nil,
		"./modules/...": {"GOOS=wasip1", "GOARCH=wasm"},
	} {
		list := exec.Command("go", "list", "-deps", "-f", `{{with .Module}}{{.Path}}{{end}}`, packages)
		list.Dir, list.Env = root, append(os.Environ(), system...)
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, module := range strings.Fields(string(out)) {
			if module != "waterproxy" && !words[module] {
				t.Errorf("%s is in %s, and NOTICE does not name it", module, packages)
				words[module] = true // once is enough
			}
		}
	}
}
