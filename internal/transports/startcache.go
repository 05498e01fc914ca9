package transports

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"waterproxy/internal/catalog"
	"waterproxy/internal/statedir"
	"waterproxy/internal/userfile"
	"waterproxy/transport"
)

// A transport that started once, as it is now, need not be loaded to learn that it
// starts: the start cache in the state directory has it. tor asks for all transports that
// torrc names and uses one or two of them, and each that is loaded takes a tenth of a
// second and tens of megabytes. The cache decides when a module is loaded, and nothing
// else: what is wrong with it shows then.

// startCache has a file for each transport and role: the SHA-256 of a text, in
// hexadecimal, a line feed, and the text, which is a [started] as JSON. It is safe for
// concurrent use, of different transports.
type startCache struct {
	dir    string // "" for no cache
	log    *slog.Logger
	failed sync.Once // for the log
}

// started is what a transport's start has shown.
type started struct {
	Key       string              // what it depends on, see key
	Published transport.Published // by a server
	Same      bool                // the start before it published the same
}

// newStartCache returns the cache in a private directory, "" for none.
func newStartCache(dir string, log *slog.Logger) *startCache {
	if dir != "" {
		dir = filepath.Join(dir, "started")
	}
	return &startCache{dir: dir, log: log}
}

func (c *startCache) file(name string, role transport.Role) string {
	return filepath.Join(c.dir, fmt.Sprintf("%s-%v.json", name, role))
}

// get reports whether the transport has started in that role as it is now, with the
// arguments that its operator gives it, and returns what it published.
func (c *startCache) get(o Options, role transport.Role, s *catalog.Source) (published transport.Published, ok bool) {
	if c.dir == "" {
		return published, false
	}
	last := c.read(o.Name, role)
	key, err := key(o, role, s)
	if err != nil || key != last.Key {
		return published, false
	}
	// Without state a module may publish something else each time.
	return last.Published, last.Same || last.Published.Equal(transport.Published{}) || len(s.State()) > 0
}

// put notes that a transport has started and what it published. If it cannot, that is
// logged once: modules are loaded at the next start then, needed or not.
func (c *startCache) put(o Options, role transport.Role, s *catalog.Source, published transport.Published) {
	if c.dir == "" {
		return
	}
	key, err := key(o, role, s)
	if err == nil {
		last := c.read(o.Name, role)
		same := last.Key == key && last.Published.Equal(published)
		err = c.write(c.file(o.Name, role), started{key, published, same})
	}
	if err != nil {
		c.failed.Do(func() {
			c.log.Warn("modules will be loaded at the next start, needed or not: their starts cannot be recorded", "directory", c.dir, "error", err)
		})
	}
}

// read returns what is kept of a transport, nothing if there is no file. One that is
// damaged it removes.
func (c *startCache) read(name string, role transport.Role) started {
	file := c.file(name, role)
	s, err := readStarted(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !statedir.IsShortage(err) {
		err = errors.Join(err, os.RemoveAll(file))
		c.log.Warn("the record of earlier starts is damaged; it is removed, and the module loaded now", "transport", name, "error", err)
	}
	return s
}

// maxStarted is how many bytes a file may have.
const maxStarted = 1 << 20

func readStarted(file string) (s started, err error) {
	content, err := statedir.ReadFile(file, maxStarted)
	if err != nil {
		return s, err
	}
	sum, text, _ := bytes.Cut(content, []byte("\n"))
	if string(sum) != hexSum(text) {
		return s, fmt.Errorf("the content of %s does not have the checksum in it", file)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return started{}, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func (c *startCache) write(file string, s started) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := statedir.MakePrivate(c.dir); err != nil {
		return err
	}
	return statedir.WriteFile(file, append([]byte(hexSum(text)+"\n"), text...))
}

func hexSum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// key stands for all that a transport's start depends on. Files are known by size and
// time, so that nothing large has to be read.
func key(o Options, role transport.Role, s *catalog.Source) (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	return hexSum(fmt.Appendf(nil, "%v %q %s\n%s%s%s", role, o.Args, s.Flags(), s.Stamp(), userfile.Stamp(program), userfile.Stamp(s.State()...))), nil
}
