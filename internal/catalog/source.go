package catalog

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"

	"waterproxy/internal/program"
	"waterproxy/internal/repository"
	"waterproxy/internal/settings"
	"waterproxy/internal/userfile"
	"waterproxy/modules"
	"waterproxy/transport"
)

// Source is what a transport's files and flags are at one moment. Each file is read once.
// It is for one goroutine at a time.
type Source struct {
	catalog  *Catalog
	name     string
	file     string   // of the module; "" if it is built in
	files    []string // see Files
	stamp    string
	module   []byte // nil before it is needed, empty after Config
	settings settings.Settings
	config   []byte // of the module
	digest   [sha256.Size]byte
	fromDir  bool                // some of it is from the Catalog's directory
	version  *repository.Version // nil if it is not from the repository
}

// Read reads the files of a transport, but for the module. What flags say comes before
// the settings in a file; both may grant addresses. The error is an ErrUnknown if there is
// no such transport.
func (c *Catalog) Read(name string) (*Source, error) {
	if err := c.Find(name); err != nil {
		return nil, err
	}
	if err := errors.Join(c.misused[name]...); err != nil {
		return nil, err
	}
	s := &Source{catalog: c, name: name, file: c.file(name)}
	s.look(cmp.Or(c.files[name], c.inDir(name+moduleSuffix)))
	if c.userFile(name) == "" && c.Repository != nil {
		s.look(c.Repository.IndexFile())
		if s.version = c.version(name); s.version != nil {
			s.file = c.Repository.ModuleFile(s.version)
			s.look(s.file)
		}
	}
	s.look(c.inDir(name + settingsSuffix))
	s.fromDir = c.present(name+moduleSuffix) != "" || c.present(name+settingsSuffix) != ""
	digest := sha256.New()
	// add counts a file that exists.
	add := func(file string, content []byte) { fmt.Fprintf(digest, "%q %x\n", file, sha256.Sum256(content)) }
	var err error
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
	if s.file == "" {
		own, err := builtInRules(name)
		if err != nil {
			return nil, err
		}
		s.settings.Allow = append(s.settings.Allow, own...)
	}
	s.look(s.settings.Config)
	if s.config, err = s.settings.ReadConfig(); err != nil {
		return nil, err
	}
	if s.config != nil {
		add(s.settings.Config, s.config)
	}
	if s.version != nil { // which stands for its content: a look need not read it
		fmt.Fprintf(digest, "%q %s\n", s.file, s.version.SHA256)
	}
	s.digest = [sha256.Size]byte(digest.Sum(nil))
	return s, nil
}

// builtInRules returns what a built-in module may dial without a grant of the operator's.
func builtInRules(name string) (rules []transport.AddressRule, err error) {
	for _, text := range modules.Allow(name) {
		rule, err := transport.ParseAddressRule(text)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// look notes a file of the transport and its stamp, before it is read. "" is none.
func (s *Source) look(file string) {
	if file != "" {
		s.files = append(s.files, file)
		s.stamp += userfile.Stamp(file)
	}
}

// readModule reads the module's file once, if it has one.
func (s *Source) readModule() (err error) {
	if s.file == "" || s.module != nil {
		return nil
	}
	if s.version != nil {
		s.module, err = s.catalog.Repository.Load(s.version)
		return err
	}
	if s.module, err = readModule(s.file); err == nil {
		sum := sha256.Sum256(s.module)
		s.digest = sha256.Sum256(append(s.digest[:], sum[:]...))
	}
	return err
}

func readModule(file string) ([]byte, error) {
	wasm, err := userfile.Read(file, userfile.MaxModule)
	if err != nil {
		return nil, fmt.Errorf("read the module: %w", err)
	}
	return wasm, nil
}

// Digest returns a hash of the files' contents. It is another one when one of them has
// changed, appeared or gone. It reads the module's file, unless that is one of a
// repository.
func (s *Source) Digest() ([sha256.Size]byte, error) {
	if s.version != nil {
		return s.digest, nil
	}
	err := s.readModule()
	return s.digest, err
}

// Files returns the files that make up the transport, whether or not they exist.
func (s *Source) Files() []string { return s.files }

// Allow returns the addresses that the module may choose to dial: those that the operator
// grants, and those of a built-in one.
func (s *Source) Allow() []transport.AddressRule { return s.settings.Allow }

// Web returns what the operator has set for the web server before a server's module; nil if
// there is none.
func (s *Source) Web() *settings.Web {
	if s.settings.Web == nil {
		return nil
	}
	w := *s.settings.Web
	if n := descriptors(); w.Connections == 0 && n > 0 {
		w.Connections = int(min(max(n/8, 1), settings.DefaultWebConnections)) // probers leave descriptors to the rest
	}
	return &w
}

// Stamp returns the [userfile.Stamp] of Files, as it was before they were read.
func (s *Source) Stamp() string { return s.stamp }

// Flags describes what the user has said about the transport by flags.
func (s *Source) Flags() string {
	c, name := s.catalog, s.name
	return fmt.Sprintf("%q %q %q %v %v %v", c.files[name], c.configs[name], c.allowed[name], c.instances[name], c.stateful[name], c.NoHostCrypto)
}

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
	defer func() { s.module = []byte{} }() // it is large, and s lives as long as the transport
	s.settings.Apply(&cfg)
	cfg.ModuleConfig, cfg.NoHostCrypto = s.config, s.catalog.NoHostCrypto
	if cfg.MaxConns == 0 {
		cfg.MaxConns = s.catalog.shareOfConns()
	}
	if err := s.grantState(&cfg); err != nil {
		return cfg, err
	}
	if err := s.readModule(); err != nil {
		return cfg, err
	}
	wasm := s.module
	if s.file == "" {
		if wasm, err = modules.Load(s.name); err != nil {
			return cfg, err
		}
	}
	o := transport.CompileOptions{
		Logger: s.catalog.log().With("transport", s.name), LoadScale: s.settings.Limits.LoadScale, Compiler: program.Compiler,
	}
	if dir := s.catalog.CacheDir(); dir != "" {
		o.CacheDir = filepath.Join(dir, "compiled")
	}
	if cfg.Module, err = transport.Compile(wasm, o); err != nil {
		if s.file != "" {
			err = fmt.Errorf("%s: %w", s.file, err)
		}
		return cfg, err
	}
	if err := s.checkNeeds(&cfg); err != nil {
		return cfg, errors.Join(err, cfg.Module.Close())
	}
	return cfg, nil
}

// shareOfConns returns how many connections an instance may have unless its settings say
// so: a module that opens all that it may leaves descriptors to the other transports. A
// connection takes one at each end.
func (c *Catalog) shareOfConns() int {
	const others = 256 // for files, listeners and the like
	n := descriptors()
	if n == 0 {
		return 0 // the library's default
	}
	share := (n - min(n, others)) / 2 / uint64(max(c.Served, 1))
	return int(min(max(share, 1), transport.DefaultMaxConns))
}

// Load is Read and Config.
func (c *Catalog) Load(name string) (transport.Config, error) {
	s, err := c.Read(name)
	if err != nil {
		return transport.Config{}, err
	}
	return s.Config()
}

// Module returns a transport's module.
func (c *Catalog) Module(name string) ([]byte, error) {
	if err := c.Find(name); err != nil {
		return nil, err
	}
	if file := c.file(name); file != "" {
		return readModule(file)
	}
	return modules.Load(name)
}

// Sum returns the SHA-256 of a transport's module.
func (c *Catalog) Sum(name string) (sum [sha256.Size]byte, err error) {
	wasm, err := c.Module(name)
	if err != nil {
		return sum, err
	}
	return sha256.Sum256(wasm), nil
}
