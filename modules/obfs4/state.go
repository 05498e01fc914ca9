package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"time"

	"gitlab.com/yawning/obfs4.git/common/drbg"
	"gitlab.com/yawning/obfs4.git/transports/base"
	library "gitlab.com/yawning/obfs4.git/transports/obfs4"
	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"
)

// The files of the library, as of obfs4proxy: a server's keys, and for its operator what
// to put into a bridge line.
const (
	stateFile  = "obfs4_state.json"
	bridgeFile = "obfs4_bridgeline.txt"
)

var errNoState = errors.New("obfs4 keeps its keys in a state directory, and there is none")

// state is the content of the state file.
type state struct {
	NodeID     string `json:"node-id"`
	PrivateKey string `json:"private-key"`
	DrbgSeed   string `json:"drbg-seed"`
	IATMode    int    `json:"iat-mode"`
}

// readState returns an os.ErrNotExist if there is no state yet. Errors do not quote
// what is in the file.
func readState(dir string) (st state, err error) {
	text, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return st, fmt.Errorf("read %s: %w", stateFile, err)
	}
	bad := json.Unmarshal(text, &st) != nil || st.IATMode < 0 || st.IATMode > 2
	for _, field := range []struct {
		text   string
		length int
	}{{st.NodeID, nodeIDLength}, {st.PrivateKey, keyLength}, {st.DrbgSeed, seedLength}} {
		raw, err := hex.DecodeString(field.text)
		bad = bad || err != nil || len(raw) != field.length
	}
	if bad {
		return st, fmt.Errorf("%s in tor's directory for transports is damaged: restore it, or move it away to get new keys and a new bridge line", stateFile)
	}
	return st, nil
}

// checkState sees that the state file, if there is one, is whole: the library would
// write over some kinds of damage.
func checkState(dir string) error {
	if _, err := readState(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// scratchDir is where the library writes: it writes its files in place, and a crash
// meanwhile would cost the keys. They are put in the place of the old ones when they are
// whole.
const scratchDir = "obfs4_new"

// newServer is the library's ServerFactory, which reads and writes the state in dir.
func newServer(dir string, args *pt.Args) (factory base.ServerFactory, err error) {
	scratch := filepath.Join(dir, scratchDir)
	if err := removeScratch(scratch); err != nil {
		return nil, err
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, removeScratch(scratch)) }()
	old, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(scratch, stateFile), old, 0o600)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if factory, err = new(library.Transport).ServerFactory(scratch, args); err != nil {
		return nil, err
	}
	for _, name := range []string{stateFile, bridgeFile} {
		if err := replace(filepath.Join(dir, name), filepath.Join(scratch, name)); err != nil {
			return nil, err
		}
	}
	return factory, nil
}

// removeScratch removes the directory for new files, if a process that was killed has
// left it.
func removeScratch(dir string) error {
	for _, name := range []string{filepath.Join(dir, stateFile), filepath.Join(dir, bridgeFile), dir} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// replace moves a file to a name whose file has another content, or does not exist.
func replace(name, with string) error {
	content, err := os.ReadFile(with)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := syncFile(with); err != nil {
		return err
	}
	if err := os.Rename(with, name); err != nil {
		return err
	}
	// Not every file system can sync a directory.
	_ = syncFile(filepath.Dir(name))
	return nil
}

// syncFile makes what a file or directory holds outlast a crash.
func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// The library keeps a connection open after a bad handshake for handshakeTimeout
// and a number of seconds below maxCloseDelay that it draws once from the seed.
const (
	handshakeTimeout = 30 * time.Second
	maxCloseDelay    = 60
)

// closeDelay returns that time, once the library has written its state.
func closeDelay(dir string) (time.Duration, error) {
	st, err := readState(dir)
	if err != nil {
		return 0, err
	}
	seed, err := drbg.SeedFromHex(st.DrbgSeed)
	if err != nil {
		return 0, err
	}
	source, err := drbg.NewHashDrbg(seed)
	if err != nil {
		return 0, err
	}
	return handshakeTimeout + time.Duration(rand.New(source).Intn(maxCloseDelay))*time.Second, nil
}
