package catalog

import (
	"fmt"
	"slices"

	"waterproxy/internal/repository"
	"waterproxy/transport"
)

// version returns the version of the repository that a transport's name stands for, nil if
// it stands for none.
func (c *Catalog) version(name string) *repository.Version {
	if c.Repository == nil {
		return nil
	}
	index, err := c.Repository.Index()
	if err != nil {
		c.indexOnce.Do(func() {
			c.log().Warn("the modules of the repository cannot be used until the next look at it", "error", err)
		})
		return nil
	}
	return index.Best(name)
}

// FromRepository returns the version of the repository that a transport's name stands for,
// nil if it stands for something else.
func (c *Catalog) FromRepository(name string) *repository.Version {
	if c.userFile(name) != "" {
		return nil
	}
	return c.version(name)
}

// Version returns the version of the repository that the source is, nil if it is something
// else.
func (s *Source) Version() *repository.Version { return s.version }

// NeedsError means that a module from the repository needs what its operator has not
// granted.
type NeedsError struct{ text string }

func (e *NeedsError) Error() string { return e.text }

func needs(format string, args ...any) error { return &NeedsError{fmt.Sprintf(format, args...)} }

// checkNeeds returns an error if a module from the repository needs what its operator has
// not granted, which is a NeedsError, or is another than was announced. A repository grants
// nothing.
func (s *Source) checkNeeds(cfg *transport.Config) error {
	v := s.version
	if v == nil {
		return nil
	}
	name := s.name
	if v.ABI != "" && cfg.Module.ABI() != v.ABI {
		return fmt.Errorf("its ABI is %s, and its repository says %s", cfg.Module.ABI(), v.ABI)
	}
	for _, rule := range v.Needs.Allow {
		needed, err := transport.ParseAddressRule(rule)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(cfg.Allow, func(r transport.AddressRule) bool { return r.Covers(needed) }) {
			return needs("it needs to dial %s by itself; if that is to be, grant it by -module-allow %s=%s", rule, name, rule)
		}
	}
	if v.Needs.State && cfg.StateDir == "" {
		return needs("it needs to keep files; if that is to be, grant it by -module-state %s", name)
	}
	if limit := limitOfMemory(cfg); v.Needs.Memory > limit {
		return needs("it needs %d MiB of memory, and may have %d; raise limits.memory in its settings", v.Needs.Memory>>20, limit>>20)
	}
	if most := limitOfThreads(cfg); v.Needs.Threads > most {
		return needs("it needs %d threads, and may have %d; raise limits.threads in its settings", v.Needs.Threads, most)
	}
	return nil
}

func limitOfMemory(cfg *transport.Config) uint64 {
	switch {
	case cfg.MaxMemory > 0:
		return cfg.MaxMemory
	case len(cfg.Module.ManyRoles()) > 0:
		return transport.DefaultManyMemory
	}
	return transport.DefaultMaxMemory
}

func limitOfThreads(cfg *transport.Config) int {
	if cfg.MaxThreads > 0 {
		return cfg.MaxThreads
	}
	return transport.DefaultMaxThreads
}
