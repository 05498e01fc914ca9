package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Names of contestants that helpers measure, and of the folders of bench/ that
// hold the helpers.
const (
	floorName  = "tcp"
	connName   = "RuntimeConn"
	dialerName = "RuntimeDialer"
	peerName   = "water"
	selfDir    = "self"
	peerDir    = "peer"

	// spliceSuffix puts a socket in the place of the connections' user.
	spliceSuffix = ":splice"
)

// peerModule is the module path of the library that peerName measures.
const peerModule = "github.com/refraction-networking/water"

// publishedModules are files in that library's own module, built by others than
// us: TinyGo for both versions of the ABI, and Rust.
var publishedModules = []string{
	"transport/v0/testdata/plain.wasm",
	"transport/v1/testdata/plain.wasm",
	"examples/v0/watm/plain.rs.wasm",
}

// helper is an executable that measures one library.
type helper struct {
	name, about string
	executable  string
	variant     string // of the library
	direct      bool   // without any module: the floor
}

// workshop is where helpers are built.
type workshop struct {
	source string // root of the source tree
	dir    string // temporary
	built  map[string]string
}

// newWorkshop finds the source tree, unless it is given, and makes a temporary
// directory.
func newWorkshop(source string) (*workshop, error) {
	var err error
	if source == "" {
		if source, err = sourceRoot(); err != nil {
			return nil, usageError{err}
		}
	}
	if source, err = filepath.Abs(source); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "waterproxy-bench-")
	if err != nil {
		return nil, err
	}
	return &workshop{source: source, dir: dir, built: make(map[string]string)}, nil
}

func (w *workshop) close() error { return os.RemoveAll(w.dir) }

// sourceRoot is the nearest directory upwards that has the peer's helper in it.
func sourceRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "bench", peerDir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not in the source tree: give it with -src")
		}
		dir = parent
	}
}

// helper makes the helper for a contestant.
func (w *workshop) helper(ctx context.Context, name string) (helper, error) {
	h := helper{name: name}
	folder := selfDir
	library, splices := strings.CutSuffix(name, spliceSuffix)
	switch {
	case name == floorName:
		h.direct, h.about = true, "a TCP connection, no module"
	case name == peerName:
		folder, h.about = peerDir, peerModule+", default settings"
	case library == connName:
		h.about = "waterproxy/transport, an instance for each connection"
	case library == dialerName:
		h.about = "waterproxy/transport, shared instances"
	default:
		return h, usageError{fmt.Errorf("no library is called %q", name)}
	}
	if folder == selfDir && !h.direct {
		h.variant = name
	}
	if splices {
		h.about += ", spliced to a TCP connection whose other end is the user's"
	}
	var err error
	h.executable, err = w.build(ctx, folder)
	return h, err
}

// build builds the helper in a folder of bench/, once.
func (w *workshop) build(ctx context.Context, folder string) (string, error) {
	if w.built[folder] != "" {
		return w.built[folder], nil
	}
	executable := filepath.Join(w.dir, folder)
	args := []string{"build", "-o", executable}
	if folder == peerDir {
		modfile, err := w.peerModfile()
		if err != nil {
			return "", err
		}
		args = append(args, "-mod=mod", "-modfile="+modfile)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, ".")...)
	cmd.Dir = filepath.Join(w.source, "bench", folder)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build bench/%s: %w\n%s", folder, err, text)
	}
	w.built[folder] = executable
	return executable, nil
}

// custom reads a helper of the user's own: NAME=FILE or NAME=FILE,VARIANT.
func custom(spec string) (helper, error) {
	name, rest, ok := strings.Cut(spec, "=")
	file, variant, _ := strings.Cut(rest, ",")
	if !ok || name == "" || file == "" {
		return helper{}, usageError{fmt.Errorf("-helper %q is not NAME=FILE[,VARIANT]", spec)}
	}
	executable, err := filepath.Abs(file)
	if err != nil {
		return helper{}, err
	}
	about := "helper `" + file + "`" + fingerprint(executable)
	if variant != "" {
		about += ", " + variant
	}
	return helper{name: name, about: about, executable: executable, variant: variant}, nil
}

// helpers makes those for a list of contestants, and the user's own.
func (w *workshop) helpers(ctx context.Context, contestants string, own list) ([]helper, error) {
	var out []helper
	for _, name := range splitList(contestants) {
		h, err := w.helper(ctx, name)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	for _, spec := range own {
		h, err := custom(spec)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	seen := make(map[string]bool)
	for _, h := range out {
		if seen[h.name] {
			return nil, usageError{fmt.Errorf("two contestants are called %s", h.name)}
		}
		seen[h.name] = true
	}
	if len(out) == 0 {
		return nil, usageError{errors.New("no contestants")}
	}
	return out, nil
}

// peerModfile copies the go.mod and go.sum of the peer's helper and returns the
// copy's name for -modfile. The requirements of the product's go.mod are part of
// the peer's and may have moved on: it is the copy that the toolchain brings up
// to date, not the file in the tree.
func (w *workshop) peerModfile() (string, error) {
	for name, copied := range map[string]string{"go.mod": "peer.mod", "go.sum": "peer.sum"} {
		b, err := os.ReadFile(filepath.Join(w.source, "bench", peerDir, name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(w.dir, copied), b, 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(w.dir, "peer.mod"), nil
}

// published finds the module files that the peer library publishes, where the
// toolchain keeps that library.
func (w *workshop) published(ctx context.Context) ([]string, error) {
	modfile, err := w.peerModfile()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-mod=mod", "-modfile="+modfile, "-f", "{{.Dir}}", peerModule)
	cmd.Dir = filepath.Join(w.source, "bench", peerDir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	dir, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("find %s: %w: %s", peerModule, err, stderr.Bytes())
	}
	var out []string
	for _, name := range publishedModules {
		out = append(out, filepath.Join(strings.TrimSpace(string(dir)), filepath.FromSlash(name)))
	}
	return out, nil
}

// plain is this project's own passthrough.
func (w *workshop) plain() string { return filepath.Join(w.source, "modules", "built", "plain.wasm") }
