package catalog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"

	"waterproxy/internal/settings"
	"waterproxy/internal/userfile"
	"waterproxy/modules"
	"waterproxy/transport"
)

// Source is what a transport's files and flags say at one moment. Each file is read once.
type Source struct {
	catalog  *Catalog
	name     string
	file     string // of the module; "" if it is built in
	module   []byte
	settings settings.Settings
	config   []byte // of the module
	digest   [sha256.Size]byte
	fromDir  bool // some of it is from the Catalog's directory
}

// Read reads the files of a transport. What flags say comes before the settings in a
// file; both may grant addresses. The error is an ErrUnknown if there is no such
// transport.
func (c *Catalog) Read(name string) (*Source, error) {
	if err := c.Find(name); err != nil {
		return nil, err
	}
	if err := errors.Join(c.misused[name]...); err != nil {
		return nil, err
	}
	s := &Source{catalog: c, name: name}
	digest := sha256.New()
	// add counts a file that exists.
	add := func(file string, content []byte) { fmt.Fprintf(digest, "%q %x\n", file, sha256.Sum256(content)) }
	var err error
	if s.file = c.file(name); s.file != "" {
		if s.module, err = readModule(s.file); err != nil {
			return nil, err
		}
		add(s.file, s.module)
	}
	s.fromDir = c.present(name+moduleSuffix) != "" || c.present(name+settingsSuffix) != ""
	if file := c.present(name + settingsSuffix); file != "" {
		text, err := userfile.Read(file, userfile.MaxSettings)
		if err != nil {
			return nil, fmt.Errorf("read the settings: %w", err)
		}
		if s.settings, err = settings.Parse(file, text); err != nil {
			return nil, err
		}
		add(file, text)
	}
	if file, ok := c.configs[name]; ok {
		s.settings.Config = file
	}
	if n, ok := c.instances[name]; ok {
		s.settings.Instances = n
	}
	s.settings.State = s.settings.State || c.stateful[name]
	s.settings.Allow = append(s.settings.Allow, c.allowed[name]...)
	if s.config, err = s.settings.ReadConfig(); err != nil {
		return nil, err
	}
	if s.config != nil {
		add(s.settings.Config, s.config)
	}
	s.digest = [sha256.Size]byte(digest.Sum(nil))
	return s, nil
}

func readModule(file string) ([]byte, error) {
	wasm, err := userfile.Read(file, userfile.MaxModule)
	if err != nil {
		return nil, fmt.Errorf("read the module: %w", err)
	}
	return wasm, nil
}

// Digest returns a hash of the files. It is another one when one of them has changed,
// appeared or gone.
func (s *Source) Digest() [sha256.Size]byte { return s.digest }

// ReadAgain reads the files anew. If what s was read from was in a directory that cannot
// be reached now, that is an error, and does not mean that the files have gone.
func (s *Source) ReadAgain() (*Source, error) {
	if err := s.catalog.reachDir(); err != nil && s.fromDir {
		return nil, fmt.Errorf("the directory of modules cannot be read: %w", err)
	}
	return s.catalog.Read(s.name)
}

// Config compiles the module, and returns the configuration to run it with. It can be
// called once.
func (s *Source) Config() (cfg transport.Config, err error) {
	s.settings.Apply(&cfg)
	cfg.ModuleConfig = s.config
	if err := s.catalog.grantState(s.name, s.settings.State, &cfg); err != nil {
		return cfg, err
	}
	wasm := s.module
	if s.file == "" {
		if wasm, err = modules.Load(s.name); err != nil {
			return cfg, err
		}
	}
	s.module = nil // it is large, and s lives as long as the transport
	o := transport.CompileOptions{Logger: s.catalog.log().With("transport", s.name)}
	if dir := s.catalog.CacheDir(); dir != "" {
		o.CacheDir = filepath.Join(dir, "compiled")
	}
	if cfg.Module, err = transport.Compile(wasm, o); err != nil && s.file != "" {
		err = fmt.Errorf("%s: %w", s.file, err)
	}
	return cfg, err
}

// Load is Read and Config.
func (c *Catalog) Load(name string) (transport.Config, error) {
	s, err := c.Read(name)
	if err != nil {
		return transport.Config{}, err
	}
	return s.Config()
}

// Sum returns the SHA-256 of a transport's module.
func (c *Catalog) Sum(name string) (sum [sha256.Size]byte, err error) {
	if err := c.Find(name); err != nil {
		return sum, err
	}
	read := modules.Load
	if file := c.file(name); file != "" {
		read = func(string) ([]byte, error) { return readModule(file) }
	}
	wasm, err := read(name)
	if err != nil {
		return sum, err
	}
	return sha256.Sum256(wasm), nil
}
