package repository

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

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
	to, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	target, _ := l.trust.find(v.path)
	var errs []error
	for _, from := range l.mirrors {
		err := l.fetchFrom(ctx, from, to, target, v.path)
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
	}
	return errors.Join(errs...)
}

// fetchFrom fetches a target from a mirror and verifies it.
func (l *look) fetchFrom(ctx context.Context, from mirror.Mirror, to *os.File, target *metadata.TargetFiles, file string) (err error) {
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
		return errors.Join(fmt.Errorf("what %s has is not what was signed", from), err, to.Truncate(0))
	}
	return nil
}
