//go:build wasip1

// Command argtest is a transport that shows what it is given, for tests of the way
// that arguments take. A client needs the argument key, and sends all its arguments
// before anything else; a server publishes all that it was started with, and serves
// clients that have its key. (Without one it makes one, and keeps it in its state
// directory.) What follows is on the wire as it is.
//
// Two arguments do something else:
//
//   - fail=TEXT makes the server's start fail with that text.
//   - crash=1 makes the client's instance crash, and crash=server that of the server
//     which the client reaches.
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"waterproxy/internal/ptargs"
	"waterproxy/watm"
)

type argtest struct{ key string }

// Start publishes the server's arguments, with a key that it makes if it was given
// none.
func (a *argtest) Start(env *watm.Env) (err error) {
	if !env.Server {
		return nil
	}
	if text, ok := env.Args.Get("fail"); ok {
		return errors.New(text)
	}
	var ok bool
	if a.key, ok = env.Args.Get("key"); !ok {
		if a.key, err = ownKey(env.StateDir); err != nil {
			return err
		}
		env.Args["key"] = []string{a.key}
	}
	return env.Publish(env.Args)
}

// ownKey returns the key that an earlier instance has left in the state directory,
// or else a new one.
func ownKey(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("it has neither a key nor a state directory")
	}
	file := filepath.Join(dir, "key")
	if key, err := os.ReadFile(file); !errors.Is(err, fs.ErrNotExist) {
		return string(key), err
	}
	random := make([]byte, 8)
	rand.Read(random) // never fails
	key := hex.EncodeToString(random)
	return key, os.WriteFile(file, []byte(key), 0o600)
}

// Client sends its arguments, in the form of a bridge line, after their length.
func (a *argtest) Client(_ context.Context, conn watm.Conn, args watm.Args) (net.Conn, error) {
	if _, ok := args.Get("key"); !ok {
		return nil, errors.New("the bridge line has no key")
	}
	if crash, _ := args.Get("crash"); crash == "1" {
		die()
	}
	text := args.String()
	_, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...))
	return conn, err
}

func (a *argtest) Server(_ context.Context, conn watm.Conn) (net.Conn, error) {
	var size uint16
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(conn, text); err != nil {
		return nil, err
	}
	parsed, err := ptargs.Parse(string(text))
	if err != nil {
		return nil, err
	}
	args := watm.Args(parsed)
	if crash, _ := args.Get("crash"); crash == "server" {
		die()
	}
	if key, _ := args.Get("key"); key != a.key {
		return nil, errors.New("the client has another key")
	}
	return conn, nil
}

// die ends the instance: the SDK cannot recover from a panic in a goroutine that is
// not its own.
func die() {
	go panic("as was asked for")
	select {}
}

func main() { watm.Run(&argtest{}) }
