//go:build unix

package transport

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// privateDir makes sure that dir exists and that nobody but this user can write
// to it: whoever could would be able to plant machine code.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("the cache %s is not a directory", dir)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("the cache directory %s belongs to another user (uid %d); name one of your own", dir, st.Uid)
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return fmt.Errorf("the cache directory %s can be written by others (mode %04o); make it 0700", dir, perm)
	}
	return privateParents(dir)
}

// privateParents makes sure that nobody else can put another directory in dir's
// place: a parent may be writable by others only if it is sticky, as /tmp is.
func privateParents(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
			return fmt.Errorf("the cache directory %s is in %s, which others can write to (mode %04o)", dir, parent, info.Mode().Perm())
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}
