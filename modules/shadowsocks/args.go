package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/shadowsocks/go-shadowsocks2/socks"

	"waterproxy/modules/internal/prefix"
	"waterproxy/watm"
)

// Errors name arguments and never their values, since they end up in logs.

// noTarget is where a client asks to be connected if its arguments do not say. Our
// server connects to tor whatever it is asked for. The name is reserved (RFC 2606):
// another server reports that it does not exist.
const noTarget = "orport.invalid:9001"

// passwordFile is where a server keeps the password that it has made, in its state
// directory. Keys of the 2022 edition have files of their own, since their lengths differ.
func (m *method) passwordFile() string {
	if m.edition2022 {
		return fmt.Sprintf("key-%d", 8*m.keySize)
	}
	return "password"
}

// newKey makes the key of the arguments cipher and password.
func newKey(args watm.Args) (*masterKey, error) {
	m, err := methodOf(args)
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
	key, err := newMasterKey(m, password)
	if err != nil {
		return nil, fmt.Errorf("the argument password is no key of the cipher: this one takes %d bytes in base64, as one makes them with openssl rand -base64 %d", m.keySize, m.keySize)
	}
	return key, nil
}

func methodOf(args watm.Args) (*method, error) {
	if _, ok := args.Get("method"); ok { // the word of most other programs for it
		return nil, errors.New("the argument cipher is meant: method is none of shadowsocks'")
	}
	name, ok := args.Get("cipher")
	if !ok {
		return &methods[0], nil
	}
	for i := range methods {
		if methods[i].name == name {
			return &methods[i], nil
		}
	}
	return nil, fmt.Errorf("the argument cipher is none of %s", strings.Join(methodNames(), ", "))
}

// clientAddress returns the address that the server is to connect to, as it is sent.
func clientAddress(args watm.Args) ([]byte, error) {
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

// minSaltBits is how many bits of a salt are random at least. Two connections with one salt
// give away what they carry, and of 2^24 connections with one password two have it with a
// probability of 2^-33 then.
const minSaltBits = 80

// saltPrefix returns what a client's salts begin with: nil if the arguments do not say. It
// is what Outline calls a prefix: servers take any salt that is new, and need not know.
func saltPrefix(args watm.Args, m *method) (prefix.Prefix, error) {
	text, ok := args.Get("prefix")
	if !ok {
		return nil, nil
	}
	p, err := prefix.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the argument prefix is no prefix: %w", err)
	}
	if left := float64(8*m.keySize) - p.FixedBits(); len(p) > m.keySize || left < minSaltBits {
		return nil, fmt.Errorf("the argument prefix is too long: with this cipher it may decide %d bits of a salt, and decides %.0f", 8*m.keySize-minSaltBits, math.Ceil(p.FixedBits()))
	}
	return p, nil
}

// serverArgs returns a server's arguments, which are what clients need as well.
func serverArgs(env *watm.Env) (watm.Args, error) {
	m, err := methodOf(env.Args)
	if err != nil {
		return nil, err
	}
	password, ok := env.Args.Get("password")
	switch {
	case ok:
		if m.edition2022 { // a bridge line cannot carry the padding
			password = strings.TrimRight(password, "=")
		}
		if !fitsBridgeLine(password) {
			return nil, errors.New(`the argument password has a character that a bridge line cannot carry (a space, a control character, or one of , = \ # "), or one beyond ASCII`)
		}
	case env.StateDir == "":
		return nil, errors.New("the argument password is missing; without one, a state directory is needed to keep one in")
	default:
		if password, err = m.keptPassword(env.StateDir); err != nil {
			return nil, err
		}
	}
	published := watm.Args{"cipher": {m.name}, "password": {password}}
	// A server does nothing with a prefix but tell its clients.
	begin, err := saltPrefix(env.Args, m)
	if begin != nil {
		published["prefix"] = []string{begin.String()}
	}
	return published, err
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
func (m *method) keptPassword(dir string) (string, error) {
	path := filepath.Join(dir, m.passwordFile())
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return m.newPassword(path)
	}
	if err != nil {
		return "", fmt.Errorf("read the file %s in the state directory: %w", m.passwordFile(), withoutPath(err))
	}
	password := strings.TrimSpace(string(text))
	_, err = newMasterKey(m, password)
	if err != nil || password == "" || !fitsBridgeLine(password) {
		return "", fmt.Errorf("the file %s in the state directory is damaged: restore it, or remove it to get a new password and a new bridge line", m.passwordFile())
	}
	return password, nil
}

// newPassword makes a password as strong as the keys, or a key, and keeps it.
func (m *method) newPassword(path string) (string, error) {
	secret, encoding := make([]byte, 24), base64.RawURLEncoding
	if m.edition2022 {
		secret, encoding = make([]byte, m.keySize), base64.RawStdEncoding
	}
	rand.Read(secret) // it never fails
	password := encoding.EncodeToString(secret)
	// A crash must not leave half of it.
	err := writeSynced(path+".new", password+"\n")
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return "", fmt.Errorf("write the file %s in the state directory: %w", m.passwordFile(), withoutPath(err))
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
