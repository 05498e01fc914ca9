package mirror

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// maxEntries is how many files a tar file may have.
const maxEntries = 100_000

// archive is a mirror in a tar file.
type archive struct {
	file    *os.File
	entries map[string]entry
}

// entry is where a file's content is.
type entry struct{ offset, size int64 }

// openTar finds out what a tar file has. The repository may be in a folder of it.
func openTar(name string) (_ *archive, err error) {
	a := &archive{entries: map[string]entry{}}
	if a.file, err = os.Open(name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", name, err), a.file.Close())
		}
	}()
	r := tar.NewReader(a.file)
	folder, found := "", false
	for n := 0; ; n++ {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("it is no tar file, or damaged: %w", err)
		}
		if n == maxEntries {
			return nil, fmt.Errorf("it has more than %d entries", maxEntries)
		}
		if h.Typeflag != tar.TypeReg || isSparse(h) {
			continue
		}
		at, err := a.file.Seek(0, io.SeekCurrent) // the reader reads no further than it has to
		if err != nil {
			return nil, err
		}
		file := path.Clean(h.Name)
		a.entries[file] = entry{at, h.Size}
		if path.Base(file) == "timestamp.json" && (!found || len(path.Dir(file)) < len(folder)) {
			folder, found = path.Dir(file), true
		}
	}
	if !found {
		return nil, errors.New("it has no repository: there is no timestamp.json in it")
	}
	if folder != "." {
		inside := map[string]entry{}
		for file, e := range a.entries {
			if rest, ok := strings.CutPrefix(file, folder+"/"); ok {
				inside[rest] = e
			}
		}
		a.entries = inside
	}
	return a, nil
}

// isSparse reports whether the content is not there as it is.
func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (a *archive) String() string { return a.file.Name() }
func (a *archive) Close() error   { return a.file.Close() }

func (a *archive) Get(_ context.Context, file string, limit int64) ([]byte, error) {
	e, ok := a.entries[file]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s in %s: %w", file, a, ErrNotFound)
	case e.size > limit:
		return nil, fmt.Errorf("%s in %s: %w", file, a, tooLarge(limit))
	}
	data, err := readAll(io.NewSectionReader(a.file, e.offset, e.size), limit)
	if err == nil && int64(len(data)) < e.size {
		err = fmt.Errorf("%s in %s: %w", file, a, io.ErrUnexpectedEOF)
	}
	return data, err
}

func (a *archive) Resume(ctx context.Context, file string, to *os.File, length int64) error {
	data, err := a.Get(ctx, file, length)
	if err != nil {
		return err
	}
	return replace(to, data)
}
