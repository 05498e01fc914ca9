package guest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"waterproxy/transport/internal/codecache"
	"waterproxy/transport/internal/wasmfile"
)

// minKept is the size of modules, in bytes, from which on what rewrite makes of them is
// kept: it takes 20 ms for each megabyte. What a child makes is always kept.
const minKept = 1 << 20

// prepare is rewrite, of which the result is kept with the compiled code, if that is. What
// is wrong with what is kept is for compile to report.
func prepare(ctx context.Context, wasm []byte, sum [sha256.Size]byte, o CompileOptions, child *childRun) (rewritten []byte, image wasmfile.Image, err error) {
	if o.CacheDir == "" || o.Interpreter || len(wasm) < minKept && o.Child == nil && !o.KeepAll {
		return rewrite(wasm)
	}
	e, err := getEngine(engineKey{cacheDir: o.CacheDir})
	if err != nil {
		return rewrite(wasm)
	}
	return e.code.prepare(ctx, wasm, sum, o.Log, child)
}

func (c *codeCache) prepare(ctx context.Context, wasm []byte, sum [sha256.Size]byte, log *slog.Logger, child *childRun) (rewritten []byte, image wasmfile.Image, err error) {
	program, err := programStamp()
	if err != nil {
		return rewrite(wasm)
	}
	of := sha256.Sum256(fmt.Appendf(nil, "%x %s", sum, program))
	id := codecache.ID("prepared", string(of[:]))
	if rewritten, image, ok := c.findPrepared(id, of, log); ok {
		return rewritten, image, nil
	}
	switch again, err := child.try(ctx); {
	case err != nil:
		return nil, image, err
	case again:
		if rewritten, image, ok := c.findPrepared(id, of, log); ok {
			return rewritten, image, nil
		}
	}
	if rewritten, image, err = rewrite(wasm); err != nil {
		return nil, image, err
	}
	content := encodePrepared(of, rewritten, image)
	if !c.full.Load() && c.store.CheckRoom(len(content)+codeFactor*len(wasm)) == nil {
		// What cannot be kept is made again; compile reports the same of the code.
		_ = c.store.AddPrepared(id, content)
	}
	return rewritten, image, nil
}

// findPrepared returns a prepared module that is kept.
func (c *codeCache) findPrepared(id string, of [sha256.Size]byte, log *slog.Logger) (rewritten []byte, image wasmfile.Image, ok bool) {
	entry, ok, damaged := c.store.Find(id)
	for _, err := range damaged {
		log.Warn("a damaged file with a prepared module is removed, and the module compiled anew", "error", err)
	}
	if !ok {
		return nil, image, false
	}
	content, err := c.store.Read(entry)
	if err == nil {
		rewritten, image, err = decodePrepared(content, of)
	}
	return rewritten, image, err == nil
}

// programStamp is another one for each build: what rewrite makes depends on it.
func programStamp() (string, error) {
	file, err := os.Executable()
	if err != nil {
		return "", err
	}
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(info.Size(), info.ModTime().UnixNano()), nil
}

// A prepared module is a hash of what it was made of, since file names have only a part of
// that, the place and the length of the image, the image and the module.
const preparedHeader = sha256.Size + 16

func encodePrepared(of [sha256.Size]byte, rewritten []byte, image wasmfile.Image) []byte {
	b := append(make([]byte, 0, preparedHeader+len(image.Bytes)+len(rewritten)), of[:]...)
	b = binary.LittleEndian.AppendUint64(b, image.Offset)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(image.Bytes)))
	return append(append(b, image.Bytes...), rewritten...)
}

var errPrepared = errors.New("it is no prepared module")

func decodePrepared(b []byte, of [sha256.Size]byte) (rewritten []byte, image wasmfile.Image, err error) {
	if len(b) < preparedHeader || [sha256.Size]byte(b) != of {
		return nil, image, errPrepared
	}
	image.Offset = binary.LittleEndian.Uint64(b[sha256.Size:])
	n := binary.LittleEndian.Uint64(b[sha256.Size+8:])
	b = b[preparedHeader:]
	if n > uint64(len(b)) {
		return nil, image, errPrepared
	}
	image.Bytes = b[:n:n]
	return b[n:], image, nil
}
