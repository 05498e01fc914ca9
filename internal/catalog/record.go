package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"waterproxy/modules"
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

// recordFile says where the record of a transport is; it is empty if there is no place.
func (c *Catalog) recordFile(name string, role transport.Role) string {
	if c.StateDir == "" {
		return ""
	}
	return filepath.Join(c.StateDir, "started", fmt.Sprintf("%s-%v.json", name, role))
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

// recall reads a record, which is empty if there is none.
func (c *Catalog) recall(name string, role transport.Role) (r record) {
	file := c.recordFile(name, role)
	if file == "" {
		return record{}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return record{}
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return record{} // it is written anew
	}
	return r
}

// Remember notes that a transport has started and what it published.
func (c *Catalog) Remember(name string, role transport.Role, args, published transport.Args) error {
	file := c.recordFile(name, role)
	if file == "" {
		return nil
	}
	key, err := c.key(name, role, args)
	if err != nil {
		return err
	}
	last := c.recall(name, role)
	same := last.Key == key && reflect.DeepEqual(last.Args, published)
	text, err := json.Marshal(record{key, published, same})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	// Another process may read it meanwhile.
	temp, err := os.CreateTemp(filepath.Dir(file), name)
	if err != nil {
		return err
	}
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

// key stands for all that a transport's start depends on. Files are told by size and
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
	case c.file(name) == "" && modules.SharedState(name) != nil:
		for _, file := range modules.SharedState(name) {
			paths = append(paths, filepath.Join(c.StateDir, file))
		}
	case c.stateful[name] || s.State:
		paths = []string{filepath.Join(c.StateDir, "modules", name)}
	}
	return paths, err
}
