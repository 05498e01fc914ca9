package repository

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"waterproxy/internal/mirror"
	"waterproxy/internal/statedir"
	"waterproxy/internal/userfile"
)

const (
	topRole   = metadata.TARGETS
	maxModule = userfile.MaxModule
)

// fetch brings a version's module here, from the first mirror that has it. What has come
// before an error is the beginning of the next try.
func (l *look) fetch(ctx context.Context, v *Version) (err error) {
	partial := l.path("partial", v.SHA256)
	for _, file := range []string{partial, l.ModuleFile(v)} {
		if info, err := os.Lstat(file); err == nil && !info.Mode().IsRegular() {
			if err := os.RemoveAll(file); err != nil {
				return err
			}
		}
	}
	to, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	target, _ := l.trust.find(v.path)
	var errs []error
	for n := range l.mirrors {
		from := l.mirrors[0]
		err := l.fetchFrom(ctx, from, len(l.mirrors)-n, to, target, v.path)
		if err == nil {
			if err = to.Sync(); err == nil {
				err = statedir.Rename(partial, l.ModuleFile(v))
			}
			return err
		}
		errs = append(errs, err)
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
			errs = append(errs, os.Remove(partial)) // others need the space more
			break
		}
		if ctx.Err() != nil {
			break
		}
		l.mirrors = append(slices.Clone(l.mirrors[1:]), from) // for the modules after this one it is the last
	}
	return errors.Join(errs...)
}

// errUnsigned means that what a mirror has is not what was signed.
var errUnsigned = errors.New("it is not what was signed")

// fetchFrom fetches a target from a mirror and verifies it. If what was there before is of
// no use, which may be the fault of another mirror, it begins anew. mirrors is how many are
// left, with this one.
func (l *look) fetchFrom(ctx context.Context, from mirror.Mirror, mirrors int, to *os.File, target *metadata.TargetFiles, file string) error {
	ctx, cancel := share(ctx, mirrors)
	defer cancel()
	for {
		info, err := to.Stat()
		if err != nil {
			return err
		}
		err = l.resume(ctx, from, to, target, file)
		if !errors.Is(err, errUnsigned) && !errors.Is(err, mirror.ErrTooLarge) && !errors.Is(err, mirror.ErrRange) {
			return err
		}
		if failed := to.Truncate(0); failed != nil || info.Size() == 0 {
			return errors.Join(err, failed)
		}
	}
}

// resume fetches the rest of a target and verifies all of it.
func (l *look) resume(ctx context.Context, from mirror.Mirror, to *os.File, target *metadata.TargetFiles, file string) (err error) {
	for _, path := range l.trust.paths(file, target) {
		if err = from.Resume(ctx, path, to, target.Length); !errors.Is(err, mirror.ErrNotFound) {
			break
		}
	}
	if err != nil {
		return err
	}
	info, err := to.Stat()
	if err != nil {
		return err
	}
	wasm := make([]byte, min(target.Length, info.Size()))
	if _, err := to.ReadAt(wasm, 0); err != nil {
		return err
	}
	if err = target.VerifyLengthHashes(wasm); err != nil || info.Size() != target.Length {
		return errors.Join(fmt.Errorf("the module at %s: %w", from, errUnsigned), err)
	}
	return nil
}

// share returns a context that ends when a mirror has had its share of the time that ctx
// leaves: a slow one is not to use up that of the mirrors after it.
func share(ctx context.Context, mirrors int) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok || mirrors < 2 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, time.Until(end)/time.Duration(mirrors), mirror.ErrSlow)
}
