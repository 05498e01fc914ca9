package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"waterproxy/internal/statedir"
	"waterproxy/transport"
)

// A transport that started once, as it is now, need not be loaded to learn that it
// starts: a record in the state directory says so. tor asks for all transports that
// torrc names and uses one or two of them, and each that is loaded takes a tenth of a
// second and tens of megabytes. A record decides when a module is loaded, and nothing
// else: what is wrong with it shows then.

// record is what a transport's start has shown.
type record struct {
	Key  string         // what it depends on, see Catalog.key
	Args transport.Args // what a server wants its clients to have
	Same bool           // the start before it has shown the same
}

// recordFile returns where the record of a transport is; "" if there is no place.
func (c *Catalog) recordFile(name string, role transport.Role) string {
	dir := c.CacheDir()
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "started", fmt.Sprintf("%s-%v.json", name, role))
}

// Started reports whether the transport has started in that role as it is now, with
// the arguments that its operator gives it, and returns those that it published.
func (c *Catalog) Started(name string, role transport.Role, args transport.Args) (published transport.Args, ok bool) {
	r := c.recall(name, role)
	key, err := c.key(name, role, args)
	if err != nil || key != r.Key {
		return nil, false
	}
	state, err := c.state(name)
	// Without state a module may publish something else each time.
	return r.Args, err == nil && (r.Same || len(r.Args) == 0 || len(state) > 0)
}

// A record's file is the SHA-256 of a text, in hexadecimal, a line feed, and the text: the
// record as JSON.

// maxRecord is how many bytes a record may have.
const maxRecord = 1 << 20

// recall reads a record, which is empty if there is none. One that is damaged it removes.
func (c *Catalog) recall(name string, role transport.Role) record {
	file := c.recordFile(name, role)
	if file == "" {
		return record{}
	}
	r, err := readRecord(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !statedir.IsShortage(err) {
		err = errors.Join(err, os.RemoveAll(file))
		c.warnOnce(file, "the record of earlier starts is damaged; it is removed, and the module loaded now", "transport", name, "error", err)
	}
	return r
}

func readRecord(file string) (r record, err error) {
	content, err := statedir.ReadFile(file, maxRecord)
	if err != nil {
		return r, err
	}
	sum, text, _ := bytes.Cut(content, []byte("\n"))
	if string(sum) != hexSum(text) {
		return r, fmt.Errorf("the content of %s does not have the checksum in it", file)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

func writeRecord(file string, r record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := statedir.MakePrivate(filepath.Dir(file)); err != nil {
		return err
	}
	return statedir.WriteFile(file, append([]byte(hexSum(text)+"\n"), text...))
}

func hexSum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Remember notes that a transport has started and what it published. That it cannot is
// logged once: the modules are loaded at the next start then, needed or not.
func (c *Catalog) Remember(name string, role transport.Role, args, published transport.Args) {
	file := c.recordFile(name, role)
	if file == "" {
		return
	}
	key, err := c.key(name, role, args)
	if err == nil {
		last := c.recall(name, role)
		same := last.Key == key && reflect.DeepEqual(last.Args, published)
		err = writeRecord(file, record{key, published, same})
	}
	if err != nil {
		c.warnOnce("records", "modules will be loaded at the next start, needed or not: their starts cannot be recorded",
			"directory", filepath.Dir(file), "error", err)
	}
}

// key stands for all that a transport's start depends on. Files are known by size and
// time, so that nothing large has to be read.
func (c *Catalog) key(name string, role transport.Role, args transport.Args) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%v %q %q %q %q %v %v\n", role, args, c.files[name], c.configs[name], c.allowed[name], c.instances[name], c.stateful[name])
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	files := append(c.Files(name), program)
	state, err := c.state(name)
	if err != nil {
		return "", err
	}
	for _, root := range state {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() {
				files = append(files, path)
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %d %d\n", file, info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// state names what a transport's module sees of the state directory.
func (c *Catalog) state(name string) (paths []string, err error) {
	s, err := c.settings(name)
	switch {
	case err != nil || c.StateDir == "":
	case c.sharedState(name) != nil:
		for _, file := range c.sharedState(name) {
			paths = append(paths, filepath.Join(c.StateDir, file))
		}
	case c.stateful[name] || s.State:
		paths = []string{filepath.Join(c.StateDir, "modules", name)}
	}
	return paths, err
}
