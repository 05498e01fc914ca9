package repository

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"waterproxy/internal/statedir"
	"waterproxy/internal/userfile"
)

// builtIn may have root.json, the first trust in the repository of the project itself.
//
//go:embed builtin
var builtIn embed.FS

// ErrNoRoot means that there is nothing to begin to trust a repository with.
var ErrNoRoot = errors.New("no root file is named, by -root FILE, and this executable has none of its own; " +
	"get it from the repository's publisher by a way that you trust")

// ReadRoot returns the root file that an operator has named, or, for "", the one of the
// executable.
func ReadRoot(file string) ([]byte, error) {
	if file == "" {
		root, err := builtIn.ReadFile("builtin/root.json")
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrNoRoot
		}
		return root, err
	}
	root, err := userfile.Read(file, maxRoot)
	if err != nil {
		return nil, fmt.Errorf("the root file: %w", err)
	}
	return root, nil
}

// TrustedRoot returns the newest root that is followed.
func (s *Store) TrustedRoot() ([]byte, error) {
	return statedir.ReadFile(s.path("metadata", "root.json"), maxRoot)
}
