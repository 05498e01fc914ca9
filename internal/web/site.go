package web

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path"
	"strings"
	"syscall"

	"waterproxy/internal/settings"
	"waterproxy/internal/walls"
	"waterproxy/transport"
)

// pages returns the handler of a site: Go's file server over what is shown of a directory,
// "" for none.
func pages(dir string, log *slog.Logger) http.Handler { return http.FileServerFS(site{dir, log}) }

// site is what is shown of a directory: regular files, by names without a leading dot, and
// directories that have an index.html. Links must not leave it. Whatever else is asked for
// does not exist, so that answers tell nothing of it. The directory is opened for each
// file: what takes its place is seen at once.
type site struct {
	dir string
	log *slog.Logger
}

// Open implements fs.FS. What goes wrong is fs.ErrNotExist: a visitor gets one answer. Only
// a name that no file can have is what it is to Go's file server.
func (s site) Open(name string) (fs.File, error) {
	f, err := s.open(name)
	if err == nil {
		return f, nil
	}
	if errors.Is(err, fs.ErrInvalid) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENAMETOOLONG) {
		return nil, err
	}
	kind, own := transport.Kind(err)
	if own || errors.Is(err, fs.ErrPermission) { // the operator's to mend; the rest is the visitor's
		s.log.Warn("a file of the web site cannot be shown", transport.KindKey, "web site: "+kind, "error", walls.Explain(err))
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func (s site) open(name string) (fs.File, error) {
	switch {
	case s.dir == "" || isHidden(name):
		return nil, fs.ErrNotExist
	case !fs.ValidPath(name):
		return nil, fs.ErrInvalid
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// What is no file is not opened: a FIFO would wait for a writer.
	info, err := root.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		index, err := root.Stat(path.Join(name, "index.html"))
		if err != nil || !index.Mode().IsRegular() {
			return nil, fs.ErrNotExist
		}
	case !info.Mode().IsRegular():
		return nil, fs.ErrNotExist
	}
	return root.Open(name)
}

// isHidden reports whether a part of a path begins with a dot.
func isHidden(name string) bool {
	return name != "." && (strings.HasPrefix(name, ".") || strings.Contains(name, "/."))
}

// checkSite returns why a site cannot be shown.
func checkSite(w *settings.Web) error {
	if w.Site == "" {
		return nil
	}
	root, err := os.OpenRoot(w.Site)
	if err == nil {
		err = root.Close()
	}
	if err != nil {
		return w.At("site", walls.Explain(err))
	}
	return nil
}
