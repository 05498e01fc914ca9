package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"time"

	"gitlab.com/yawning/obfs4.git/common/drbg"
)

// stateFile is where the library, as obfs4proxy, keeps a server's keys.
const stateFile = "obfs4_state.json"

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
