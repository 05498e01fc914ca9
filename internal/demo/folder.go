package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// maxSocketPath is how long the path of a Unix socket may be everywhere.
const maxSocketPath = 100

// folder is the temporary folder that holds every file of a demonstration.
type folder struct{ path string }

// newFolder makes a folder whose path can stand in a torrc and that leaves room
// for a Unix socket's name.
func newFolder() (*folder, error) {
	parents := []string{os.TempDir(), "/tmp"}
	for _, parent := range parents {
		// Those who use it do so from other folders than this one.
		parent, err := filepath.Abs(parent)
		if err != nil {
			return nil, err
		}
		path, err := os.MkdirTemp(parent, "waterproxy-demo-")
		if err != nil {
			return nil, err
		}
		f := &folder{path: path}
		if plain(path) && len(f.metricsSocket()) <= maxSocketPath {
			return f, nil
		}
		if err := f.remove(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("neither %q nor %q is a short path without white space and quotes", parents[0], parents[1])
}

// plain reports whether a path can be a word of a torrc line.
func plain(path string) bool {
	return !strings.ContainsFunc(path, unicode.IsSpace) && !strings.ContainsAny(path, "#\"\\")
}

func (f *folder) networkDir() string { return filepath.Join(f.path, "tor") }

// metricsSocket is where the client's transport process offers its figures.
func (f *folder) metricsSocket() string { return filepath.Join(f.path, "metrics.sock") }

// plainPath returns a path by which tor can launch the executable: tor splits
// the command at white space and knows no quotes.
func (f *folder) plainPath(executable string) (string, error) {
	if plain(executable) {
		return executable, nil
	}
	link := filepath.Join(f.path, "executable")
	if err := os.Symlink(executable, link); err != nil {
		return "", fmt.Errorf("tor cannot launch %q because of its path: %w", executable, err)
	}
	return link, nil
}

func (f *folder) remove() error { return os.RemoveAll(f.path) }
