package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	library "github.com/Jigsaw-Code/outline-sdk/transport/shadowsocks"
	"github.com/shadowsocks/go-shadowsocks2/socks"

	"waterproxy/watm"
)

// Errors name arguments and never their values, since they end up in logs.

// The first cipher is the default. It is the fastest where there are no
// instructions for AES, as in WebAssembly.
var ciphers = []string{"chacha20-ietf-poly1305", "aes-128-gcm", "aes-256-gcm"}

// noTarget is where a client asks to be connected if its arguments do not say. Our
// server connects to tor whatever it is asked for. The name is reserved (RFC 2606):
// another server reports that it does not exist.
const noTarget = "orport.invalid:9001"

// passwordFile is where a server keeps the password that it has made, in its state
// directory.
const passwordFile = "password"

// newKey makes the key of the arguments cipher and password.
func newKey(args watm.Args) (*library.EncryptionKey, error) {
	cipher, err := cipherName(args)
	if err != nil {
		return nil, err
	}
	password, ok := args.Get("password")
	switch {
	case !ok:
		return nil, errors.New("the argument password is missing")
	case password == "":
		return nil, errors.New("the argument password is empty")
	}
	key, err := library.NewEncryptionKey(cipher, password)
	if err != nil {
		return nil, errors.New("the arguments cipher and password do not make a key")
	}
	return key, nil
}

func cipherName(args watm.Args) (string, error) {
	if _, ok := args.Get("method"); ok { // the word of most other programs for it
		return "", errors.New("the argument cipher is meant: method is none of shadowsocks'")
	}
	name, ok := args.Get("cipher")
	if !ok {
		return ciphers[0], nil
	}
	if !slices.Contains(ciphers, name) {
		return "", fmt.Errorf("the argument cipher is none of %s", strings.Join(ciphers, ", "))
	}
	return name, nil
}

// clientHeader returns what a client sends first: the address that the server is to
// connect to.
func clientHeader(args watm.Args) ([]byte, error) {
	target, ok := args.Get("target")
	if !ok {
		target = noTarget
	}
	header := socks.ParseAddr(target)
	if header == nil || strings.HasPrefix(target, ":") || bytes.HasSuffix(header, []byte{0, 0}) { // the port
		return nil, errors.New("the argument target is not of the form HOST:PORT")
	}
	return header, nil
}

// serverArgs returns a server's arguments, which are what clients need as well.
func serverArgs(env *watm.Env) (watm.Args, error) {
	cipher, err := cipherName(env.Args)
	if err != nil {
		return nil, err
	}
	password, ok := env.Args.Get("password")
	switch {
	case ok:
		if !fitsBridgeLine(password) {
			return nil, errors.New(`the argument password has a character that a bridge line cannot carry (a space, a control character, or one of , = \ # "), or one beyond ASCII`)
		}
	case env.StateDir == "":
		return nil, errors.New("the argument password is missing; without one, a state directory is needed to keep one in")
	default:
		if password, err = keptPassword(env.StateDir); err != nil {
			return nil, err
		}
	}
	return watm.Args{"cipher": {cipher}, "password": {password}}, nil
}

// fitsBridgeLine tells whether a value survives tor's way from a server to the
// bridge line in a client's torrc.
func fitsBridgeLine(value string) bool {
	return !strings.ContainsFunc(value, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`,=\#"`, r)
	})
}

// keptPassword returns the password in a state directory. If there is none, it makes
// one.
func keptPassword(dir string) (string, error) {
	path := filepath.Join(dir, passwordFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newPassword(path)
	}
	if err != nil {
		return "", fmt.Errorf("read the file %s in the state directory: %w", passwordFile, withoutPath(err))
	}
	password := strings.TrimSpace(string(text))
	if password == "" || !fitsBridgeLine(password) {
		return "", fmt.Errorf("the file %s in the state directory is damaged: restore it, or remove it to get a new password and a new bridge line", passwordFile)
	}
	return password, nil
}

// newPassword makes a password as strong as the keys, and keeps it.
func newPassword(path string) (string, error) {
	var secret [24]byte
	rand.Read(secret[:]) // it never fails
	password := base64.RawURLEncoding.EncodeToString(secret[:])
	// A crash must not leave half of it.
	err := writeSynced(path+".new", password+"\n")
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return "", fmt.Errorf("write the file %s in the state directory: %w", passwordFile, withoutPath(err))
	}
	return password, nil
}

// writeSynced writes a file that outlasts a crash.
func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// withoutPath leaves the reason alone.
func withoutPath(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
