package main

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"waterproxy/watm"
)

// Errors name the argument alone and quote no value, since they end up in logs.

// Lengths in bytes.
const (
	nodeIDLength = 20
	keyLength    = 32
	certLength   = nodeIDLength + keyLength
)

// CheckArgs implements watm.ArgsChecker.
func (*obfs4) CheckArgs(args watm.Args) error {
	if err := checkClientArgs(args); err != nil {
		return fmt.Errorf("%w; copy the whole bridge line", err)
	}
	return nil
}

// checkClientArgs checks the arguments of a bridge line.
func checkClientArgs(args watm.Args) error {
	if err := args.CheckOnce("cert", "node-id", "public-key", "iat-mode"); err != nil {
		return err
	}
	if cert, ok := args.Get("cert"); ok {
		raw, err := base64.RawStdEncoding.DecodeString(cert)
		switch {
		case err != nil:
			return errors.New("the argument cert is not base64")
		case len(raw) != certLength:
			return fmt.Errorf("the argument cert is %d bytes long, not %d", len(raw), certLength)
		}
	} else {
		if _, ok := args.Get("node-id"); !ok {
			return errors.New("the argument cert is missing (an obfs4 bridge line has cert=... and iat-mode=...)")
		}
		if err := checkHex(args, "node-id", nodeIDLength); err != nil {
			return err
		}
		if err := checkHex(args, "public-key", keyLength); err != nil {
			return err
		}
	}
	if _, ok := args.Get("iat-mode"); !ok {
		return errors.New("the argument iat-mode is missing (it is 0, 1 or 2)")
	}
	return checkIATMode(args)
}

// parseClientArgs reads the arguments of a bridge line.
func parseClientArgs(args watm.Args) (*identity, int, error) {
	if err := checkClientArgs(args); err != nil {
		return nil, 0, err
	}
	id := new(identity)
	if cert, ok := args.Get("cert"); ok {
		raw := must(base64.RawStdEncoding.DecodeString(cert))
		copy(id.public[:], raw[copy(id.nodeID[:], raw):])
	} else {
		nodeID, _ := args.Get("node-id")
		public, _ := args.Get("public-key")
		fromHex(id.nodeID[:], nodeID)
		fromHex(id.public[:], public)
	}
	mode, _ := args.Get("iat-mode")
	return id, int(mode[0] - '0'), nil
}

// checkServerArgs checks ServerTransportOptions. The keys are given together, or
// kept in the state directory.
func checkServerArgs(args watm.Args) error {
	lengths := map[string]int{"node-id": nodeIDLength, "private-key": keyLength, "drbg-seed": seedLength}
	given := 0
	for name := range lengths {
		if _, ok := args.Get(name); ok {
			given++
		}
	}
	if given > 0 {
		for _, name := range []string{"node-id", "private-key", "drbg-seed"} {
			if err := checkHex(args, name, lengths[name]); err != nil {
				return err
			}
		}
	}
	return checkIATMode(args)
}

func checkHex(args watm.Args, name string, length int) error {
	value, ok := args.Get(name)
	if !ok {
		return fmt.Errorf("the argument %s is missing", name)
	}
	raw, err := hex.DecodeString(value)
	switch {
	case err != nil:
		return fmt.Errorf("the argument %s is not hexadecimal", name)
	case len(raw) != length:
		return fmt.Errorf("the argument %s is %d bytes long, not %d", name, len(raw), length)
	}
	return nil
}

func checkIATMode(args watm.Args) error {
	if mode, ok := args.Get("iat-mode"); ok && mode != "0" && mode != "1" && mode != "2" {
		return errors.New("the argument iat-mode is none of 0, 1 and 2")
	}
	return nil
}
