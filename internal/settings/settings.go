// Package settings reads the files in which operators say how a transport's module
// runs: NAME.toml beside NAME.wasm. docs/modules.md describes them.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"waterproxy/internal/userfile"
	"waterproxy/transport"
)

// Settings are the contents of a file. The zero value is that of an empty one.
type Settings struct {
	// Config is the name of the module's configuration file, "" for none.
	Config string
	// Allow grants the module addresses.
	Allow []transport.AddressRule
	// Instances is that of transport.Config.
	Instances int
	// State grants the module a state directory.
	State  bool
	Limits Limits
	// Web is the web server that stands before a server's module; nil for none.
	Web *Web
}

// Limits are those of transport.Config; 0 stands for the default.
type Limits struct {
	Memory       uint64
	Descriptors  int
	Threads      int
	Connections  int
	Instances    int
	State        uint64
	StateFiles   int
	LoadScale    int // of transport.CompileOptions
	SetupTimeout time.Duration
	DrainTimeout time.Duration
}

// document has the keys of a file. Numbers are pointers, because 0 is an error.
type document struct {
	Config    string   `toml:"config"`
	Allow     []string `toml:"allow"`
	Instances *int     `toml:"instances"`
	Each      bool     `toml:"instance-per-connection"`
	State     bool     `toml:"state"`
	Limits    limits   `toml:"limits"`
	Web       *web     `toml:"web"`
}

type limits struct {
	Memory       *string `toml:"memory"`
	Descriptors  *int    `toml:"descriptors"`
	Threads      *int    `toml:"threads"`
	Connections  *int    `toml:"connections"`
	Instances    *int    `toml:"instances"`
	State        *string `toml:"state"`
	StateFiles   *int    `toml:"state-files"`
	LoadScale    *int    `toml:"load-scale"`
	SetupTimeout *string `toml:"setup-timeout"`
	DrainTimeout *string `toml:"drain-timeout"`
}

// Error is something wrong in a file.
type Error struct {
	File string
	Line int    // 0 if unknown
	Key  string // "" if there is none to name
	Err  error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	return b.String() + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Read reads a file. The error joins an [*Error] for each thing that is wrong in it.
func Read(file string) (Settings, error) {
	text, err := userfile.Read(file, userfile.MaxSettings)
	if err != nil {
		return Settings{}, err
	}
	return Parse(file, text)
}

// Parse reads the content of a file.
func Parse(file string, text []byte) (Settings, error) {
	text, err := utf8Text(file, text)
	if err != nil {
		return Settings{}, err
	}
	s, err := parse(file, text)
	s.Config = beside(file, s.Config)
	return s, err
}

// beside returns the path of what a settings file names: a relative name is one in the
// directory of that file.
func beside(file, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(file), name)
}

// utf8Text removes the byte order mark that some editors begin a file with. What they
// call Unicode may be UTF-16.
func utf8Text(file string, text []byte) ([]byte, error) {
	text, marked := bytes.CutPrefix(text, []byte("\ufeff"))
	utf16 := bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) ||
		len(text) > 1 && (text[0] == 0) != (text[1] == 0)
	if utf16 && !marked {
		return nil, &Error{File: file, Line: 1, Err: errors.New("the file is in UTF-16; save it as UTF-8")}
	}
	return text, nil
}

func parse(file string, text []byte) (Settings, error) {
	var d document
	decoder := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return Settings{}, explain(file, err)
	}
	c := checker{file: file, lines: keyLines(text)}
	s := Settings{
		Config: d.Config,
		State:  d.State,
		Limits: Limits{
			Memory:       c.size("limits.memory", d.Limits.Memory),
			Descriptors:  c.number("limits.descriptors", d.Limits.Descriptors),
			Threads:      c.number("limits.threads", d.Limits.Threads),
			Connections:  c.number("limits.connections", d.Limits.Connections),
			Instances:    c.number("limits.instances", d.Limits.Instances),
			State:        c.size("limits.state", d.Limits.State),
			StateFiles:   c.number("limits.state-files", d.Limits.StateFiles),
			LoadScale:    c.number("limits.load-scale", d.Limits.LoadScale),
			SetupTimeout: c.duration("limits.setup-timeout", d.Limits.SetupTimeout),
			DrainTimeout: c.duration("limits.drain-timeout", d.Limits.DrainTimeout),
		},
		Instances: c.number("instances", d.Instances),
	}
	if d.Each {
		if d.Instances != nil {
			c.fail("instance-per-connection", errors.New("it contradicts instances; give one of the two"))
		}
		s.Instances = transport.InstancePerConn
	}
	for _, text := range d.Allow {
		rule, err := transport.ParseAddressRule(text)
		if err != nil {
			c.fail("allow", err)
		}
		s.Allow = append(s.Allow, rule)
	}
	s.Web = c.web(d.Web)
	return s, c.join()
}

// goType matches go-toml's error for a value of the wrong type.
var goType = regexp.MustCompile(`^cannot decode TOML (\w+) into .* of type (\S+)$`)

// nouns are the types of a document for those who do not write Go.
var nouns = map[string]string{"string": "a string", "int": "a number", "bool": "true or false", "[]string": "a list of strings", "settings.limits": "a table", "settings.web": "a table"}

// explain turns the decoder's errors into ours.
func explain(file string, err error) error {
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		var errs []error
		for _, e := range unknown.Errors {
			line, _ := e.Position()
			errs = append(errs, &Error{file, line, strings.Join(e.Key(), "."), errors.New("there is no such key")})
		}
		return errors.Join(errs...)
	case errors.As(err, &bad):
		line, _ := bad.Position()
		text := strings.TrimPrefix(bad.Error(), "toml: ")
		if m := goType.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("it must be %s, and is of the type %s", nouns[strings.TrimPrefix(m[2], "*")], m[1])
		}
		return &Error{file, line, strings.Join(bad.Key(), "."), errors.New(text)}
	}
	return &Error{File: file, Err: err}
}

// checker collects what is wrong with values.
type checker struct {
	file  string
	lines map[string]int // of keys
	errs  []*Error
}

// join returns the errors in the order of their lines.
func (c *checker) join() error {
	slices.SortStableFunc(c.errs, func(a, b *Error) int { return a.Line - b.Line })
	all := make([]error, len(c.errs))
	for i, err := range c.errs {
		all[i] = err
	}
	return errors.Join(all...)
}

func (c *checker) fail(key string, err error) {
	line, ok := c.lines[key]
	if !ok { // it is in an inline table
		table, _, _ := strings.Cut(key, ".")
		line = c.lines[table]
	}
	c.errs = append(c.errs, &Error{c.file, line, key, err})
}

// most is the largest number of anything that a file may ask for.
const most = 1 << 20

func (c *checker) number(key string, n *int) int {
	if n == nil {
		return 0
	}
	if *n < 1 || *n > most {
		c.fail(key, fmt.Errorf("%d is not between 1 and %d", *n, most))
	}
	return *n
}

// sizes matches a size; the schema has the same pattern.
var sizes = regexp.MustCompile(`^([1-9][0-9]{0,6})(KiB|MiB|GiB)$`)

func (c *checker) size(key string, text *string) uint64 {
	if text == nil {
		return 0
	}
	m := sizes.FindStringSubmatch(*text)
	if m == nil {
		c.fail(key, fmt.Errorf("%q is no size such as 256MiB (units: KiB, MiB, GiB)", *text))
		return 0
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		c.fail(key, err)
	}
	n <<= map[string]int{"KiB": 10, "MiB": 20, "GiB": 30}[m[2]]
	if n > 4<<30 {
		c.fail(key, fmt.Errorf("%s is more than 4GiB", *text))
	}
	return n
}

// durations matches a time; the schema has the same pattern.
var durations = regexp.MustCompile(`^([1-9][0-9]{0,6})(ms|s|m|h)$`)

func (c *checker) duration(key string, text *string) time.Duration {
	if text == nil {
		return 0
	}
	if !durations.MatchString(*text) {
		c.fail(key, fmt.Errorf("%q is no time such as 30s (units: ms, s, m, h)", *text))
		return 0
	}
	d, err := time.ParseDuration(*text)
	if err != nil {
		c.fail(key, err)
	}
	return d
}

// ReadConfig returns the content of the module's configuration file, nil if there is none.
func (s *Settings) ReadConfig() ([]byte, error) {
	if s.Config == "" {
		return nil, nil
	}
	text, err := userfile.Read(s.Config, userfile.MaxConfig)
	if err != nil {
		return nil, fmt.Errorf("read the module's configuration: %w", err)
	}
	return text, nil
}

// Apply puts the settings into a configuration, but for Config and State.
func (s *Settings) Apply(cfg *transport.Config) {
	cfg.Allow = append(cfg.Allow, s.Allow...)
	cfg.Instances = s.Instances
	cfg.MaxMemory, cfg.MaxDescriptors = s.Limits.Memory, s.Limits.Descriptors
	cfg.MaxThreads = s.Limits.Threads
	cfg.MaxState, cfg.MaxStateFiles = int64(s.Limits.State), s.Limits.StateFiles
	cfg.MaxConns, cfg.MaxInstances = s.Limits.Connections, s.Limits.Instances
	cfg.SetupTimeout, cfg.DrainTimeout = s.Limits.SetupTimeout, s.Limits.DrainTimeout
}
