// Package mirror gets the files of a repository from where copies of it are: web servers,
// directories and tar files. None of them is trusted: what comes is bounded in size, time
// and pace, and verified by others.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"waterproxy/internal/userfile"
)

// Mirror is a copy of a repository. It is for one goroutine at a time.
type Mirror interface {
	// Get returns a file, whose path is relative and has slashes. One that does not exist
	// is an ErrNotFound, one of more than limit bytes an ErrTooLarge.
	Get(ctx context.Context, file string, limit int64) ([]byte, error)
	// Resume appends to a file what it lacks of a file of length bytes. What has arrived
	// before an error stays there. If it cannot be gone on with, the error is an ErrRange
	// or an ErrTooLarge.
	Resume(ctx context.Context, file string, to *os.File, length int64) error
	// String returns its name for people, without credentials.
	String() string
	// Close frees what it holds.
	Close() error
}

var (
	// ErrNotFound means that a mirror has no such file.
	ErrNotFound = errors.New("not found")
	// ErrTooLarge means that a file has more bytes than it may have.
	ErrTooLarge = errors.New("larger than it may be")
	// ErrRange means that a mirror does not send the rest of a file.
	ErrRange = errors.New("the mirror does not send the rest of the file")
	// ErrSlow means that a mirror sends so slowly that waiting is no use.
	ErrSlow = errors.New("the mirror is too slow")
)

// Options are how mirrors on the network are reached.
type Options struct {
	// Dial makes connections; nil means a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Patience is how long a mirror may take to begin an answer, and then for each 20 kB
	// of it. 0 means 30 seconds.
	Patience time.Duration
}

// Open returns the mirror at an https or http address, in a directory, or in a tar file.
// The caller closes it.
func Open(where string, o Options) (Mirror, error) {
	scheme, rest, ok := strings.Cut(where, "://")
	switch {
	case ok && (scheme == "https" || scheme == "http"):
		return openWeb(where, o)
	case ok && scheme == "file":
		where = rest
	case ok:
		return nil, fmt.Errorf("a repository is at an https or http address, in a directory or in a tar file; %q is something else", scheme)
	}
	info, err := os.Stat(where)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the repository: %w", err)
	case info.IsDir():
		return directory(where), nil
	case info.Mode().IsRegular():
		return openTar(where)
	}
	return nil, fmt.Errorf("the repository %s is neither a directory nor a tar file", where)
}

// Port returns the port at which a mirror on the network is, "" for one on this machine.
func Port(where string) string {
	u, err := url.Parse(where)
	if err != nil || u.Host == "" {
		return ""
	}
	if u.Port() != "" {
		return u.Port()
	}
	return map[string]string{"https": "443", "http": "80"}[u.Scheme]
}

// isLocal reports whether a path stays within the repository.
func isLocal(file string) bool {
	return filepath.IsLocal(filepath.FromSlash(file)) && path.Clean(file) == file && !strings.Contains(file, `\`)
}

func errPath(file string) error {
	return fmt.Errorf("%.200q is no path in a repository", file)
}

// directory is a mirror on this machine.
type directory string

func (d directory) String() string { return string(d) }
func (d directory) Close() error   { return nil }

func (d directory) Get(_ context.Context, file string, limit int64) ([]byte, error) {
	if !isLocal(file) {
		return nil, errPath(file)
	}
	data, err := userfile.Read(filepath.Join(string(d), filepath.FromSlash(file)), limit)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%s from %s: %w", file, d, ErrNotFound)
	case errors.Is(err, userfile.ErrTooLarge):
		return nil, fmt.Errorf("%s from %s: %w", file, d, tooLarge(limit))
	}
	return data, err
}

func (d directory) Resume(ctx context.Context, file string, to *os.File, length int64) error {
	data, err := d.Get(ctx, file, length)
	if err != nil {
		return err
	}
	return replace(to, data)
}

// replace makes data the content of a file.
func replace(to *os.File, data []byte) error {
	if err := to.Truncate(0); err != nil {
		return err
	}
	_, err := to.WriteAt(data, 0)
	return err
}

// tooLarge is the error for a file of more than limit bytes.
func tooLarge(limit int64) error { return fmt.Errorf("%w (%d bytes)", ErrTooLarge, limit) }

// readAll reads at most limit bytes; more are an error.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = tooLarge(limit)
	}
	return data, err
}
