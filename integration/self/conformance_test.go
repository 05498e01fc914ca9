package self

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the folder of the project.
const root = "../.."

// docs/conformance.md names tests that exist, and all that are named after a section.
func TestConformanceList(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "conformance.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile("`(Test[A-Z]\\w*[a-z0-9]\\w*)`").FindAllStringSubmatch(string(text), -1) {
		if !strings.HasSuffix(m[1], "_") {
			listed[m[1]] = true
		}
	}
	if len(listed) < 30 {
		t.Fatalf("it lists %d tests", len(listed))
	}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	exists := map[string]bool{}
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(source), -1) {
			exists[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range listed {
		if !exists[name] {
			t.Errorf("it lists %s, which does not exist", name)
		}
	}
	for name := range exists {
		if regexp.MustCompile(`^Test(PTSpec|ExtORPort)_`).MatchString(name) && !listed[name] {
			t.Errorf("it does not list %s", name)
		}
	}
}
