package main

import (
	"encoding/base64"
	"maps"
	"strings"
	"testing"

	"waterproxy/watm"
)

// Values of the right form. Their text is in no message.
var (
	goodCert = base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("c", certLength)))
	goodID   = strings.Repeat("d1", nodeIDLength)
	goodKey  = strings.Repeat("e2", keyLength)
	goodSeed = strings.Repeat("f3", seedLength)
)

// edit returns good arguments with changes: names and values in turn, where the value
// "-" takes an argument away.
func edit(good watm.Args, changes ...string) watm.Args {
	args := maps.Clone(good)
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "-" {
			delete(args, changes[i])
		} else {
			args[changes[i]] = []string{changes[i+1]}
		}
	}
	return args
}

// checkArgs checks a check: good arguments pass it, and an error about bad ones names
// the argument and quotes no value.
func checkArgs(t *testing.T, check func(watm.Args) error, good watm.Args, bad []badArg) {
	t.Helper()
	if err := check(good); err != nil {
		t.Errorf("good arguments %v: %v", good, err)
	}
	for _, b := range bad {
		args := edit(good, b.changes...)
		err := check(args)
		if err == nil {
			t.Errorf("%v: no error", args)
			continue
		}
		if !strings.Contains(err.Error(), "argument "+b.name) || !strings.Contains(err.Error(), b.says) {
			t.Errorf("%v: %q, which does not say of %s that it %s", args, err, b.name, b.says)
		}
		for _, values := range args {
			for _, value := range values {
				if len(value) > 1 && strings.Contains(err.Error(), value) {
					t.Errorf("%q has the value %q in it", err, value)
				}
			}
		}
	}
}

type badArg struct {
	changes []string
	name    string // of the argument at fault
	says    string
}

func TestClientArgs(t *testing.T) {
	const (
		notBase64 = "is not base64"
		notHex    = "is not hexadecimal"
		missing   = "is missing"
		noMode    = "is none of 0, 1 and 2"
	)
	modes := []badArg{
		{[]string{"prefix", ""}, "prefix", "is no prefix: it is empty"},
		{[]string{"prefix", "GET%"}, "prefix", "is no prefix: it is not URL-encoded"},
		{[]string{"prefix", "GET"}, "prefix", "is too short"},
		{[]string{"prefix", strings.Repeat("%p", 22)}, "prefix", "is too short"},
		{[]string{"prefix", strings.Repeat("GET%20", 17)}, "prefix", "is 68 bytes long, and 64 are the most"},
		{[]string{"iat-mode", "-"}, "iat-mode", missing},
		{[]string{"iat-mode", ""}, "iat-mode", noMode},
		{[]string{"iat-mode", "30"}, "iat-mode", noMode},
		{[]string{"iat-mode", "-1"}, "iat-mode", noMode},
		{[]string{"iat-mode", "01"}, "iat-mode", noMode},
		{[]string{"iat-mode", "paranoid"}, "iat-mode", noMode},
	}
	checkArgs(t, checkClientArgs, watm.Args{"cert": {goodCert}, "iat-mode": {"0"}}, append(modes,
		badArg{[]string{"cert", "-"}, "cert", missing},
		badArg{[]string{"cert", ""}, "cert", "0 bytes long, not 52"},
		badArg{[]string{"cert", goodCert[:40]}, "cert", "30 bytes long, not 52"},
		badArg{[]string{"cert", goodCert + "AA"}, "cert", "bytes long, not 52"},
		badArg{[]string{"cert", goodCert[:len(goodCert)-1]}, "cert", notBase64},
		badArg{[]string{"cert", "?" + goodCert[1:]}, "cert", notBase64},
		badArg{[]string{"cert", goodCert + "=="}, "cert", notBase64},
	))
	// The arguments of version 0.0.2.
	checkArgs(t, checkClientArgs, watm.Args{"node-id": {goodID}, "public-key": {goodKey}, "iat-mode": {"2"}}, append(modes,
		badArg{[]string{"node-id", "-"}, "cert", missing},
		badArg{[]string{"node-id", goodID + "00"}, "node-id", "21 bytes long, not 20"},
		badArg{[]string{"node-id", "zz" + goodID[2:]}, "node-id", notHex},
		badArg{[]string{"public-key", "-"}, "public-key", missing},
		badArg{[]string{"public-key", goodKey[2:]}, "public-key", "31 bytes long, not 32"},
		badArg{[]string{"public-key", goodKey[1:]}, "public-key", notHex},
	))
}

func TestServerArgs(t *testing.T) {
	good := watm.Args{"node-id": {goodID}, "private-key": {goodKey}, "drbg-seed": {goodSeed}, "iat-mode": {"1"}}
	var bad []badArg
	for name := range map[string]bool{"node-id": true, "private-key": true, "drbg-seed": true} {
		value := good[name][0]
		bad = append(bad,
			badArg{[]string{name, "-"}, name, "is missing"},
			badArg{[]string{name, ""}, name, "0 bytes long"},
			badArg{[]string{name, value[2:]}, name, "bytes long, not"},
			badArg{[]string{name, value + value}, name, "bytes long, not"},
			badArg{[]string{name, "xy" + value[2:]}, name, "is not hexadecimal"},
		)
	}
	bad = append(bad,
		badArg{[]string{"prefix", "%16%03%01"}, "prefix", "is too short"},
		badArg{[]string{"prefix", "%A8%A8%A8%A8"}, "prefix", "is no prefix: it has a character beyond"},
		badArg{[]string{"iat-mode", "37"}, "iat-mode", "is none of 0, 1 and 2"},
		badArg{[]string{"iat-mode", ""}, "iat-mode", "is none of 0, 1 and 2"},
	)
	checkArgs(t, checkServerArgs, good, bad)
	for _, args := range []watm.Args{nil, {"iat-mode": {"0"}}, edit(good, "iat-mode", "-")} {
		if err := checkServerArgs(args); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestCheckArgs: what the SDK asks before it dials is that check, with advice.
func TestCheckArgs(t *testing.T) {
	check := new(obfs4).CheckArgs
	good := watm.Args{"cert": {goodCert}, "iat-mode": {"0"}}
	const advice = "; copy the whole bridge line"
	checkArgs(t, check, good, []badArg{
		{[]string{"cert", "-"}, "cert", advice},
		{[]string{"cert", "AAAA"}, "cert", "3 bytes long, not 52" + advice},
		{[]string{"iat-mode", "9"}, "iat-mode", "none of 0, 1 and 2" + advice},
	})
	for _, args := range []watm.Args{
		edit(good, "node-id", goodID, "public-key", goodKey), // cert comes first
		edit(good, "unknown", "x"),
		edit(good, "prefix", "GET%20"),
		edit(good, "prefix", strings.Repeat("%p", 23)),
		{"cert": {goodCert, goodCert}, "iat-mode": {"0", "0"}},
	} {
		if err := check(args); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	other := goodCert[:8] + "AAAA" + goodCert[12:]
	if err := check(watm.Args{"cert": {goodCert, other}, "iat-mode": {"0"}}); err == nil || !strings.Contains(err.Error(), "argument cert is given more than once") {
		t.Errorf("two certs: %v", err)
	}
}

// TestClientRefuses: bad arguments fail a connection before it is used.
func TestClientRefuses(t *testing.T) {
	client := new(obfs4)
	if err := client.Start(&watm.Env{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Client(t.Context(), nil, watm.Args{"iat-mode": {"0"}}); err == nil {
		t.Error("it used a connection without a cert")
	}
}
