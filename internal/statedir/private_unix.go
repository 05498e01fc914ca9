//go:build unix

package statedir

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// CheckPrivate returns an error unless dir belongs to this user and no other user can
// write to it, or put another directory in its place.
func CheckPrivate(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if err := checkOwn(dir, info); err != nil {
		return err
	}
	// A symbolic link is as safe as the directories that it is in, and those that it
	// leads through.
	named, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(named)
	if err != nil {
		return err
	}
	if err := checkParents(real); err != nil || real == named {
		return err
	}
	return checkParents(named)
}

// checkOwn returns an error unless the file or directory name belongs to this user and
// no other user can write to it.
func checkOwn(name string, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user (uid %d)", name, st.Uid)
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return fmt.Errorf("%s can be written by other users (mode %04o)", name, perm)
	}
	return nil
}

// checkParents returns an error if another user can replace a directory on the way to
// dir. A parent may be writable by others only if it is sticky, as /tmp is.
func checkParents(dir string) error {
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o022 != 0 && info.Mode()&os.ModeSticky == 0 {
			return fmt.Errorf("%s is in %s, which can be written by other users (mode %04o)", dir, parent, info.Mode().Perm())
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}

// CheckWritable returns an error if this process cannot make files in dir. It writes
// nothing, and so does not notice a full disk.
func CheckWritable(dir string) error {
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// openFlags keep a symbolic link from being followed, and a FIFO from blocking.
const openFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK

// syncDir makes a change of names in dir outlast a crash of the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some file systems cannot sync a directory (EINVAL); there a name is as safe as
	// they make it.
	_ = d.Sync()
	return nil
}
