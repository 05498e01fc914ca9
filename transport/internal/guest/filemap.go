package guest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// fileMap is a read-only file system in memory: files by their paths. Directories are
// those that the paths imply, and the root.
type fileMap map[string]memoryFile

type memoryFile struct {
	content []byte
	mode    fs.FileMode // permissions
}

// Open implements [fs.FS].
func (m fileMap) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if f, ok := m[name]; ok {
		return &openFile{bytes.NewReader(f.content), f.info(path.Base(name))}, nil
	}
	entries := m.list(name)
	if len(entries) == 0 && name != "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &openDir{directoryInfo(path.Base(name)), entries}, nil
}

// list returns what a directory has, sorted.
func (m fileMap) list(dir string) (entries []fs.DirEntry) {
	prefix := dir + "/"
	if dir == "." {
		prefix = ""
	}
	found := map[string]fileInfo{}
	for name, f := range m {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		if child, _, isDir := strings.Cut(rest, "/"); isDir {
			found[child] = directoryInfo(child)
		} else {
			found[child] = f.info(child)
		}
	}
	for _, child := range slices.Sorted(maps.Keys(found)) {
		entries = append(entries, fs.FileInfoToDirEntry(found[child]))
	}
	return entries
}

func (f memoryFile) info(name string) fileInfo { return fileInfo{name, int64(len(f.content)), f.mode} }

func directoryInfo(name string) fileInfo { return fileInfo{name, 0, fs.ModeDir | 0o555} }

// fileInfo describes a file or directory of a fileMap. There are no times.
type fileInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }

// openFile is an open file of a fileMap. Its Reader also seeks.
type openFile struct {
	*bytes.Reader
	info fileInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

// openDir is an open directory of a fileMap.
type openDir struct {
	info    fileInfo
	entries []fs.DirEntry // that have not been read
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("is a directory")}
}

// ReadDir implements [fs.ReadDirFile].
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	read := d.entries[:n:n]
	d.entries = d.entries[n:]
	return read, nil
}
