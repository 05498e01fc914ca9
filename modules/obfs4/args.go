package main

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"waterproxy/modules/internal/prefix"
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
	if err := args.CheckOnce("cert", "node-id", "public-key", "iat-mode", "prefix"); err != nil {
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
	if _, err := parsePrefixes(args["prefix"]); err != nil {
		return err
	}
	return checkIATMode(args)
}

// bridgeArgs is what a bridge line says.
type bridgeArgs struct {
	identity
	iatMode int
	prefix  prefix.Prefix // nil if there is none
}

// parseClientArgs reads the arguments of a bridge line.
func parseClientArgs(args watm.Args) (*bridgeArgs, error) {
	if err := checkClientArgs(args); err != nil {
		return nil, err
	}
	id := new(bridgeArgs)
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
	id.iatMode = int(mode[0] - '0')
	if all := must(parsePrefixes(args["prefix"])); len(all) > 0 {
		id.prefix = all[0]
	}
	return id, nil
}

const (
	// maxPrefix bounds a prefix, in bytes: a server knows whether it is there when it has
	// as many bytes as the shortest handshake, and what it costs stays small.
	maxPrefix = 64
	// minPrefixBits is how much of a client's first bytes a prefix decides at least: so
	// often, one of 2^32, does a client without one begin like it, and has to try again.
	minPrefixBits = 32
)

// parsePrefixes reads the values of the argument prefix, with which clients begin before
// their handshake. A bridge line has one, a server's options any number.
func parsePrefixes(values []string) (all []prefix.Prefix, err error) {
	for _, value := range values {
		p, err := prefix.Parse(value)
		switch {
		case err != nil:
			return nil, fmt.Errorf("the argument prefix is no prefix: %w", err)
		case len(p) > maxPrefix:
			return nil, fmt.Errorf("the argument prefix is %d bytes long, and %d are the most", len(p), maxPrefix)
		case p.FixedBits() < minPrefixBits:
			return nil, errors.New("the argument prefix is too short: a server tells clients that have it by 4 bytes at least, or 23 that are drawn")
		}
		all = append(all, p)
	}
	return all, nil
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
	if _, err := parsePrefixes(args["prefix"]); err != nil {
		return err
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
