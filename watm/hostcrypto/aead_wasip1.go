//go:build wasip1 && watm_hostcrypto

package hostcrypto

import (
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

//go:wasmimport water_crypto_v1 aead_new
//go:noescape
func aeadNew(algorithm uint32, key unsafe.Pointer, keyLen uint32) int32

//go:wasmimport water_crypto_v1 aead_seal
//go:noescape
func aeadSeal(handle uint32, nonce unsafe.Pointer, nonceLen uint32, aad unsafe.Pointer, aadLen uint32,
	src unsafe.Pointer, n uint32, dst unsafe.Pointer) int32

//go:wasmimport water_crypto_v1 aead_open
//go:noescape
func aeadOpen(handle uint32, nonce unsafe.Pointer, nonceLen uint32, aad unsafe.Pointer, aadLen uint32,
	src unsafe.Pointer, n uint32, dst unsafe.Pointer) int32

//go:wasmimport water_crypto_v1 aead_seal_many
//go:noescape
func aeadSealMany(handle uint32, frames unsafe.Pointer, count uint32) int32

//go:wasmimport water_crypto_v1 aead_free
func aeadFree(handle uint32) int32

// aead is a handle of the host's.
type aead struct{ handle uint32 }

func (a *AEAD) init(algorithm Algorithm, key []byte) error {
	h := aeadNew(uint32(algorithm), pointer(key), uint32(len(key)))
	// Those of connections that have just ended may still be in use, or not be collected.
	for pause := time.Millisecond; h == -int32(syscall.EMFILE) && pause < time.Second; pause *= 2 {
		runtime.GC()
		time.Sleep(pause)
		h = aeadNew(uint32(algorithm), pointer(key), uint32(len(key)))
	}
	if h < 0 {
		return syscall.Errno(-h)
	}
	a.impl.handle = uint32(h)
	runtime.AddCleanup(a, func(h uint32) { aeadFree(h) }, a.impl.handle)
	return nil
}

func (a *AEAD) seal(dst, nonce, src, additional []byte) {
	must("aead_seal", aeadSeal(a.impl.handle, pointer(nonce), uint32(len(nonce)), pointer(additional), uint32(len(additional)),
		pointer(src), uint32(len(src)), pointer(dst)))
	runtime.KeepAlive(a)
}

func (a *AEAD) open(dst, nonce, src, additional []byte) bool {
	r := aeadOpen(a.impl.handle, pointer(nonce), uint32(len(nonce)), pointer(additional), uint32(len(additional)),
		pointer(src), uint32(len(src)), pointer(dst))
	runtime.KeepAlive(a)
	return r == 0
}

// frameArgs is a frame as the host reads it.
type frameArgs struct{ nonce, nonceLen, aad, aadLen, src, n, dst uint32 }

// table keeps the frames of a call as Go sees them, too: so they lie on the heap, where
// addresses stay what they are.
type table struct {
	args   []frameArgs
	frames []Frame
}

var tables = sync.Pool{New: func() any { return new(table) }}

func address(b []byte) uint32 { return uint32(uintptr(pointer(b))) }

func (a *AEAD) sealFrames(frames []Frame) {
	t := tables.Get().(*table)
	defer tables.Put(t)
	t.frames = append(t.frames[:0], frames...)
	t.args = t.args[:0]
	for _, f := range t.frames {
		t.args = append(t.args, frameArgs{nonce: address(f.Nonce), nonceLen: uint32(len(f.Nonce)),
			src: address(f.In), n: uint32(len(f.In)), dst: address(f.Out)})
	}
	r := aeadSealMany(a.impl.handle, unsafe.Pointer(unsafe.SliceData(t.args)), uint32(len(t.args)))
	clear(t.frames)
	runtime.KeepAlive(a)
	if must("aead_seal_many", r); int(r) != len(frames) {
		panic("water_crypto_v1.aead_seal_many stopped at frame " + strconv.Itoa(int(r)))
	}
}
