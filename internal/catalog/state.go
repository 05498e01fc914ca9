package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"waterproxy/internal/statedir"
	"waterproxy/modules"
	"waterproxy/transport"
)

// What is in the state directory is of two kinds. A cache (compiled code, records of
// starts) only saves time, but is believed: it is used if the directory is private, and
// done without otherwise. What modules keep cannot be done without by those that keep
// it, and costs no other transport anything.

// errNoState is what is wrong if there is no state directory.
var errNoState = errors.New("there is no state directory")

// MakeState makes the state directory. If it cannot, what needs it fails or is done
// without later, with the reason in an error or a warning.
func (c *Catalog) MakeState() {
	if c.StateDir == "" {
		return
	}
	dir, err := filepath.Abs(c.StateDir)
	if err == nil {
		c.StateDir, err = dir, statedir.Make(dir)
	}
	c.stateErr = err
}

// CacheDir returns the state directory if what is in it may be believed, and "" if there
// is to be no cache. The first call that finds that it may not logs a warning.
func (c *Catalog) CacheDir() string {
	c.cacheOnce.Do(func() {
		err := c.stateErr
		switch {
		case err != nil:
		case c.StateDir == "":
			return
		default:
			if err = statedir.MakePrivate(c.StateDir); err == nil {
				err = statedir.CheckWritable(c.StateDir)
			}
		}
		if err == nil {
			err = c.discardUnfit("compiled", "started")
		}
		if err == nil {
			c.cacheDir = c.StateDir
			return
		}
		c.log().Warn("nothing is cached, so each start compiles and loads all modules, which takes about a second for each: "+
			"the state directory cannot be used for that",
			"directory", c.StateDir, "error", err, "remedy", "a directory that only this user can write to, by "+c.stateFlag())
	})
	return c.cacheDir
}

// discardUnfit removes what has the name of one of the cache's directories, and is none,
// or one to which others could have written.
func (c *Catalog) discardUnfit(names ...string) error {
	for _, name := range names {
		dir := filepath.Join(c.StateDir, name)
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		unfit := statedir.CheckPrivate(dir)
		if unfit == nil {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("%w; it cannot be removed: %w", unfit, err)
		}
		c.log().Warn("a directory of the cache is removed, and made anew", "directory", dir, "error", unfit)
	}
	return nil
}

func (c *Catalog) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

func (c *Catalog) stateFlag() string { return cmp.Or(c.StateFlag, "TOR_PT_STATE_LOCATION") }

// grantState gives a module the part of the state directory that is its own. A module
// whose operator has said that it keeps state does not run without.
func (s *Source) grantState(cfg *transport.Config) error {
	c, name, required := s.catalog, s.name, s.settings.State
	if files := c.stateFiles(name); files != nil {
		// A client's module keeps nothing, and a server's misses its files.
		if root, err := os.OpenRoot(c.StateDir); err == nil {
			cfg.StateDir, cfg.StateFiles = c.StateDir, files
			return root.Close()
		}
		return nil
	}
	if !required && !c.kept[name] {
		return nil
	}
	dir, err := c.makeModuleState(name)
	switch {
	case err == nil:
		cfg.StateDir = dir
	case required:
		return fmt.Errorf("its module is to keep state: %w", err)
	}
	return nil
}

// State returns the files and directories of the state directory that the module sees,
// whether or not they exist.
func (s *Source) State() (paths []string) {
	c := s.catalog
	switch files := c.stateFiles(s.name); {
	case c.StateDir == "":
	case files != nil:
		for _, file := range files {
			paths = append(paths, filepath.Join(c.StateDir, file))
		}
	case s.settings.State:
		paths = []string{c.moduleState(s.name)}
	}
	return paths
}

// stateFiles returns the files of the state directory that are a built-in module's.
func (c *Catalog) stateFiles(name string) []string {
	if c.StateDir == "" || c.file(name) != "" {
		return nil
	}
	return modules.StateFiles(name)
}

// moduleState returns which directory a module that keeps state has.
func (c *Catalog) moduleState(name string) string {
	if c.stateFiles(name) != nil {
		return c.StateDir
	}
	return filepath.Join(c.StateDir, "modules", name)
}

// makeModuleState makes a module's directory. One that cannot be written is good enough
// for a module that finds its files there.
func (c *Catalog) makeModuleState(name string) (string, error) {
	err := c.stateErr
	if err == nil && c.StateDir == "" {
		err = errNoState
	}
	dir := c.moduleState(name)
	if err == nil {
		err = statedir.Make(dir)
	}
	if err != nil {
		return "", c.stateUnusable(err)
	}
	return dir, nil
}

// stateUnusable adds to an error which directory it is about, and how to name another.
func (c *Catalog) stateUnusable(err error) error {
	if c.StateDir == "" {
		return fmt.Errorf("%w; name one by %s", err, c.stateFlag())
	}
	return fmt.Errorf("the state directory %s cannot be used: %w; make it usable, or name another by %s", c.StateDir, err, c.stateFlag())
}

// StateError returns why the module of a transport has no place for files, nil if it has
// one.
func (c *Catalog) StateError(name string) error {
	_, err := c.makeModuleState(name)
	return err
}

// Explain adds to the error of a transport that has not started what is wrong with its
// state directory, if anything is and the module has one, or should have.
func (s *Source) Explain(err error) error {
	c, name := s.catalog, s.name
	builtIn := c.file(name) == "" && modules.StateFiles(name) != nil
	if !builtIn && !c.kept[name] && !s.settings.State {
		return err
	}
	dir, state := c.makeModuleState(name)
	if state == nil {
		if state = statedir.Try(dir); state == nil {
			return err
		}
		state = c.stateUnusable(state)
	}
	return fmt.Errorf("%w; %w", err, state)
}
