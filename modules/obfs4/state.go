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
	"strconv"
	"strings"
	"time"

	"waterproxy/modules/internal/prefix"
	"waterproxy/watm"
	"waterproxy/watm/hostcrypto"
)

// The files of obfs4proxy: a server's keys, and for its operator what to put into a bridge
// line.
const (
	stateFile  = "obfs4_state.json"
	bridgeFile = "obfs4_bridgeline.txt"
)

var errNoState = errors.New("obfs4 keeps its keys in a state directory, and there is none")

// state is what a server keeps.
type state struct {
	bridge  identity
	private key
	seed    seed
	iatMode int
	// prefixes are what clients may begin with: those of the first in the bridge line, those
	// of the others with an older line. They are in the arguments of each start, not in the
	// file, which is also obfs4proxy's.
	prefixes []prefix.Prefix
}

// clientArgs is what clients need to know.
func (st *state) clientArgs() watm.Args {
	args := watm.Args{"cert": {st.bridge.cert()}, "iat-mode": {strconv.Itoa(st.iatMode)}}
	if len(st.prefixes) > 0 {
		args["prefix"] = []string{st.prefixes[0].String()}
	}
	return args
}

// stateText is the content of the state file.
type stateText struct {
	NodeID     string `json:"node-id"`
	PrivateKey string `json:"private-key"`
	PublicKey  string `json:"public-key"` // is not read
	DrbgSeed   string `json:"drbg-seed"`
	IATMode    int    `json:"iat-mode"`
}

// readState returns an os.ErrNotExist if there is no state yet. Errors do not quote
// what is in the file.
func readState(dir string) (text stateText, err error) {
	content, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return text, fmt.Errorf("read %s: %w", stateFile, err)
	}
	bad := json.Unmarshal(content, &text) != nil || text.IATMode < iatNone || text.IATMode > iatParanoid
	for _, field := range []struct {
		text   string
		length int
	}{{text.NodeID, nodeIDLength}, {text.PrivateKey, keyLength}, {text.DrbgSeed, seedLength}} {
		raw, err := hex.DecodeString(field.text)
		bad = bad || err != nil || len(raw) != field.length
	}
	if bad {
		return text, fmt.Errorf("%s in tor's directory for transports is damaged: restore it, or move it away to get new keys and a new bridge line", stateFile)
	}
	return text, nil
}

// keepState returns the state in dir, or a new one, with what the arguments change, and
// keeps it there. A damaged state is an error even if the arguments replace all of it: it
// may be somebody's keys.
func keepState(dir string, args watm.Args) (st state, err error) {
	text, err := readState(dir)
	if errors.Is(err, os.ErrNotExist) {
		text, err = newState(), nil
	}
	if err != nil {
		return st, err
	}
	if id, ok := args.Get("node-id"); ok { // and so are the others
		text.NodeID = id
		text.PrivateKey, _ = args.Get("private-key")
		text.DrbgSeed, _ = args.Get("drbg-seed")
	}
	if mode, ok := args.Get("iat-mode"); ok {
		text.IATMode = int(mode[0] - '0')
	}
	st = text.parse()
	if st.prefixes, err = parsePrefixes(args["prefix"]); err != nil {
		return st, err
	}
	text.PublicKey = hex.EncodeToString(st.bridge.public[:])
	content, err := json.Marshal(text)
	if err != nil {
		return st, err
	}
	return st, writeFiles(dir, map[string][]byte{stateFile: content, bridgeFile: st.bridgeLine()})
}

func newState() (text stateText) {
	for _, field := range []struct {
		text   *string
		length int
	}{{&text.NodeID, nodeIDLength}, {&text.PrivateKey, keyLength}, {&text.DrbgSeed, seedLength}} {
		raw := make([]byte, field.length)
		random(raw)
		*field.text = hex.EncodeToString(raw)
	}
	return text
}

// parse returns the state in a text that has been checked.
func (text *stateText) parse() (st state) {
	fromHex(st.bridge.nodeID[:], text.NodeID)
	fromHex(st.private[:], text.PrivateKey)
	fromHex(st.seed[:], text.DrbgSeed)
	st.iatMode = text.IATMode
	// The product of the base point is never of low order.
	st.bridge.public, _ = hostcrypto.X25519(&st.private, &basePoint)
	return st
}

// bridgeLine is the content of the file for the operator.
func (st *state) bridgeLine() []byte {
	return fmt.Appendf(nil, "# What clients of this bridge put into their torrc. The words in angle brackets stand for\n"+
		"# the bridge's address and port and for its fingerprint, which tor writes into its log.\n"+
		"# The transport writes this file anew at each start, and does not read it.\n\n"+
		"Bridge obfs4 <IP ADDRESS>:<PORT> <FINGERPRINT> %s\n", strings.ReplaceAll(st.clientArgs().String(), ";", " "))
}

// scratchDir is where files are written: a crash meanwhile must not cost the keys. They
// are put in the place of the old ones when they are whole.
const scratchDir = "obfs4_new"

// writeFiles puts files in the place of those in dir that have another content.
func writeFiles(dir string, files map[string][]byte) (err error) {
	scratch := filepath.Join(dir, scratchDir)
	if err := removeScratch(scratch); err != nil {
		return err
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeScratch(scratch)) }()
	for _, name := range []string{stateFile, bridgeFile} {
		if err := replace(filepath.Join(dir, name), filepath.Join(scratch, name), files[name]); err != nil {
			return err
		}
	}
	return nil
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

// replace gives a file another content by way of a second file.
func replace(name, second string, content []byte) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := os.WriteFile(second, content, 0o600); err != nil {
		return err
	}
	if err := syncFile(second); err != nil {
		return err
	}
	if err := os.Rename(second, name); err != nil {
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

// maxCloseDelay bounds the seconds beyond serverTimeout for which a connection is kept open
// after a bad handshake. A bridge draws them once, from its seed.
const maxCloseDelay = 60

// closeDelay returns that time, from the beginning of a connection.
func (st *state) closeDelay() time.Duration {
	return serverTimeout + time.Duration(rand.New(newGenerator(&st.seed)).Intn(maxCloseDelay))*time.Second
}
