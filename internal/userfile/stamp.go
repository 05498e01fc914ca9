package userfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Stamp describes files, and those in directories, by their sizes and times: it opens and
// parses nothing. Another stamp means that something has changed.
func Stamp(paths ...string) string {
	var all strings.Builder
	for _, path := range paths {
		// An error is part of the stamp, and no error ends the walk.
		_ = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				return nil
			}
			info, err := os.Stat(path) // of a link it is what it leads to that counts
			switch {
			case err == nil:
				fmt.Fprintf(&all, "%q %d %d\n", path, info.Size(), info.ModTime().UnixNano())
			case !errors.Is(err, fs.ErrNotExist):
				fmt.Fprintf(&all, "%q %v\n", path, err)
			}
			return nil
		})
	}
	return all.String()
}
