package guest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// ConfigPath is where a module finds its configuration.
const ConfigPath = "conf/watm.cfg"

// StatePath is the directory in which a module that was granted one may keep
// files.
const StatePath = "state"

// tree is a directory that a module may use, and everything below it.
type tree struct {
	name string // as the module sees it
	fs.FS
	root      *os.Root   // nil if it cannot be written
	only      []string   // the files that there are for the module; nil is no limit
	mailboxes *mailboxes // nil if there are none
	quota     *Quota     // nil if nothing bounds what may be added
}

// has reports whether the module may know of a file.
func (t *tree) has(name string) bool {
	return t.only == nil || name == "." || slices.Contains(t.only, name)
}

// open opens a file below the tree. Flags are those of os.OpenFile.
func (t *tree) open(name string, flags int) (*file, error) {
	if t.root == nil {
		if box := t.mailboxes.find(name); box != nil && flags != os.O_RDONLY {
			return &file{f: box.open(), tree: t, name: name}, nil
		}
		if flags != os.O_RDONLY {
			return nil, fs.ErrPermission
		}
		f, err := t.Open(name)
		if err != nil {
			return nil, err
		}
		return &file{f: f, tree: t, name: name}, nil
	}
	if runtime.GOOS != "windows" {
		flags |= syscall.O_NONBLOCK // a FIFO must not hold up the module
	}
	if flags&os.O_CREATE != 0 && !t.create(name) {
		return nil, syscall.ENOSPC
	}
	f, err := t.root.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err = fs.ErrInvalid
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	opened := &file{f: f, tree: t, name: name}
	t.quota.opened(opened)
	return opened, nil
}

// stat does not follow a link at the end of the name, wherever it leads.
func (t *tree) stat(name string) (fs.FileInfo, error) {
	if t.root != nil {
		return t.root.Lstat(name)
	}
	return fs.Stat(t.FS, name)
}

// file is an open file or directory of a tree.
type file struct {
	f       fs.File
	tree    *tree
	name    string // within the tree, "." for its root
	preopen bool

	mu      sync.Mutex    // threads share files, and some have a place without a lock
	entries []fs.DirEntry // of a directory, once listed
	append  bool
}

// configTree holds the configuration file, and for modules that know of them
// the files of notes.go. They are a snapshot: nothing that a module does can
// change them.
func (in *Instance) configTree() *tree {
	files := fileMap{}
	if in.o.Config != nil {
		files[ConfigPath] = memoryFile{in.o.Config, 0o400}
	}
	t := &tree{name: "/", FS: files}
	if in.readsNotes() {
		in.addNotes(files)
		t.mailboxes = &in.mailboxes
	}
	return t
}

// openStandard opens descriptors 0 to 2 and the directories that the module may
// use from 3 on.
func (in *Instance) openStandard() {
	std := []*descriptor{
		{},
		{output: newLineLogger(in.o.Logger, "stdout", in.died)},
		{output: newLineLogger(in.o.Logger, "stderr", in.died)},
	}
	trees := []*tree{}
	if in.o.Config != nil || in.readsNotes() {
		trees = append(trees, in.configTree())
	}
	if in.o.State != nil {
		trees = append(trees, &tree{name: "/" + StatePath, root: in.o.State, only: in.o.StateFiles, quota: in.o.Quota})
	}
	in.fds.limit += len(std) + len(trees) // they are not the module's doing
	for _, d := range std {
		in.fds.insert(d)
	}
	for _, t := range trees {
		in.fds.insert(&descriptor{file: &file{tree: t, name: ".", preopen: true}})
	}
}

func (in *Instance) configFile() (*file, error) {
	return in.configTree().open(ConfigPath, os.O_RDONLY)
}

func (f *file) isDir() bool {
	if f.f == nil {
		return true
	}
	info, err := f.f.Stat()
	return err == nil && info.IsDir()
}

func (f *file) stat() (fs.FileInfo, error) {
	if f.f == nil {
		return f.tree.stat(f.name)
	}
	return f.f.Stat()
}

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	f.tree.quota.closed(f)
	return f.f.Close()
}

func (f *file) read(bufs [][]byte) (total int, e errno) {
	if f.f == nil {
		return 0, eIsdir
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range bufs {
		n, err := f.f.Read(b)
		total += n
		if err == io.EOF || err == nil && n < len(b) || total > 0 && err != nil {
			return total, eSuccess
		}
		if err != nil {
			return 0, toErrno(err)
		}
	}
	return total, eSuccess
}

func (f *file) write(bufs [][]byte) (total int, e errno) {
	w, ok := f.f.(io.Writer)
	if !ok {
		return 0, eBadf
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.append {
		if _, err := f.seekLocked(0, io.SeekEnd); err != nil {
			return 0, toErrno(err)
		}
	}
	if f.tree.quota != nil && f.tree.root != nil {
		at, err := f.seekLocked(0, io.SeekCurrent)
		if err != nil {
			return 0, toErrno(err)
		}
		for _, b := range bufs {
			at += int64(len(b))
		}
		if !f.grow(at) {
			return 0, eNospc
		}
	}
	for _, b := range bufs {
		n, err := w.Write(b)
		total += n
		if err != nil {
			return total, toErrno(err)
		}
	}
	return total, eSuccess
}

func (f *file) seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seekLocked(offset, whence)
}

// seekLocked is seek with the lock held.
func (f *file) seekLocked(offset int64, whence int) (int64, error) {
	s, ok := f.f.(io.Seeker)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return s.Seek(offset, whence)
}

func (f *file) setAppend(on bool) {
	f.mu.Lock()
	f.append = on
	f.mu.Unlock()
}

// resolve turns a path that a module gave relative to a directory into one
// relative to the tree's root. A path cannot leave the tree: fs.FS and os.Root
// see to that for what a link would do, and this for the text itself.
func (f *file) resolve(p string) (string, errno) {
	if !f.isDir() {
		return "", eNotdir
	}
	if strings.ContainsRune(p, 0) {
		return "", eInval
	}
	joined := path.Join(f.name, strings.TrimLeft(p, "/"))
	if !fs.ValidPath(joined) || !f.tree.has(joined) {
		return "", eNotcapable
	}
	return joined, eSuccess
}

// list returns the directory's entries, which are read once, or anew.
func (f *file) list(anew bool) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.entries != nil && !anew {
		return f.entries, nil
	}
	dir := f.tree.FS
	if f.tree.root != nil {
		dir = f.tree.root.FS()
	}
	entries, err := fs.ReadDir(dir, f.name)
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !f.tree.has(path.Join(f.name, e.Name())) })
	f.entries = entries
	return entries, err
}
