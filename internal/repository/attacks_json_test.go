package repository_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

var everyValue = flag.Bool("attacks.every", false, "TestAttackMalformed puts each value at each place, and not null alone and some others")

// senseless are values that can be at a place of metadata, whatever belongs there.
var senseless = []any{
	nil, -1, json.Number("99999999999999999999999"), "", []any{}, map[string]any{}, 0, math.MaxInt64, 1.5, json.Number("1e400"), true, "\x00\u202e/../x",
	[]any{nil}, map[string]any{"": nil}, strings.Repeat("00", 33), "2999-01-01T00:00:00Z",
}

// TestAttackMalformed puts senseless values at every place of each role's metadata, and
// signs that with the right keys, as the holder of a key can. There is no panic, nothing
// takes long, and what runs goes on.
func TestAttackMalformed(t *testing.T) {
	t.Parallel()
	for _, role := range append(metadata.TOP_LEVEL_ROLE_NAMES[:], "author") {
		t.Run(role, func(t *testing.T) {
			_, _, base := attacked(t)
			mine := base.delegate("author", newKeys(t, "author"), "mine.wasm")
			mine.Signed.Targets["mine.wasm"] = base.target("mine.wasm", "", content("mine", "1"))
			base.rotate(nil)
			base.publish()
			file := map[string]string{
				metadata.ROOT: "2.root.json", metadata.TIMESTAMP: "timestamp.json", metadata.SNAPSHOT: "3.snapshot.json", metadata.TARGETS: "3.targets.json", "author": "1.author.json",
			}[role]
			original := base.files[file]
			if original == nil {
				t.Fatal("there is no ", file)
			}
			keys := base.keys[role]
			if role == "author" {
				keys = base.keys["delegated/author"]
			}
			n := 0
			var u *user
			try := func(text []byte, what string) {
				t.Helper()
				if u == nil {
					u = newUser(t, base)
					u.o.Now = day0.Add(day)
					copyDir(t, u.state, followed)
				}
				kept, _ := os.ReadFile(filepath.Join(u.store.Dir(), "metadata", "timestamp.json"))
				base.files[file] = text
				began := time.Now()
				_ = u.update(base.files)
				if d := time.Since(began); d > 20*time.Second {
					t.Errorf("%s: it takes %v", what, d)
				}
				u.loadsOnlySigned()
				u.onlyVerified()
				if got := u.runs("obfs4"); !strings.HasPrefix(got, "module of obfs4") {
					t.Errorf("%s: obfs4 is %q", what, got)
				}
				now, _ := os.ReadFile(filepath.Join(u.store.Dir(), "metadata", "timestamp.json")) // a new root may have removed it
				if !bytes.Equal(kept, now) {
					u = nil // it is not what it was
				}
			}
			places(decode(t, original), nil, func(path []any) {
				for v, value := range senseless {
					if v > 0 && !*everyValue && n%2*v != 1+n/2%(len(senseless)-1) {
						continue
					}
					doc := put(decode(t, original), path, value)
					try(resigned(t, role, doc, keys), fmt.Sprintf("%v at %v", value, path))
				}
				n++
			})
			if role == metadata.TIMESTAMP || role == metadata.TARGETS || *everyValue {
				for what, text := range texts(t, original) {
					try(text, what)
				}
			}
			base.files[file] = original
			u = newUser(t, base)
			copyDir(t, u.state, followed)
			u.recovers(base)
			t.Log(n, "places")
		})
	}
}

func decode(t *testing.T, text []byte) any {
	t.Helper()
	var doc any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	must(t, d.Decode(&doc))
	return doc
}

// places calls f with every place below a value.
func places(v any, path []any, f func(path []any)) {
	f(path)
	switch v := v.(type) {
	case map[string]any:
		for key := range v {
			places(v[key], append(path[:len(path):len(path)], key), f)
		}
	case []any:
		for i := range v {
			places(v[i], append(path[:len(path):len(path)], i), f)
		}
	}
}

// put puts a value at a place.
func put(doc any, path []any, value any) any {
	if len(path) == 0 {
		return value
	}
	switch at := path[0].(type) {
	case string:
		m := doc.(map[string]any)
		m[at] = put(m[at], path[1:], value)
	case int:
		l := doc.([]any)
		l[at] = put(l[at], path[1:], value)
	}
	return doc
}

// resigned returns a document with the signatures that belong to what a client reads in it.
func resigned(t *testing.T, role string, doc any, keys []*key) []byte {
	t.Helper()
	text, err := json.Marshal(doc)
	must(t, err)
	var sigs []metadata.Signature
	switch role {
	case metadata.ROOT:
		sigs = signatures[metadata.RootType](text, keys)
	case metadata.TIMESTAMP:
		sigs = signatures[metadata.TimestampType](text, keys)
	case metadata.SNAPSHOT:
		sigs = signatures[metadata.SnapshotType](text, keys)
	default:
		sigs = signatures[metadata.TargetsType](text, keys)
	}
	if m, ok := doc.(map[string]any); ok && sigs != nil {
		if _, ok := m["signatures"].([]any); ok {
			m["signatures"] = sigs
			text, err = json.Marshal(m)
			must(t, err)
		}
	}
	return text
}

// signatures returns those of what a client reads, nil if it reads nothing.
func signatures[T metadata.Roles](text []byte, keys []*key) (sigs []metadata.Signature) {
	defer func() { _ = recover() }() // go-tuf has read it
	m, err := new(metadata.Metadata[T]).FromBytes(text)
	if err != nil {
		return nil
	}
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return nil
	}
	for _, k := range keys {
		sig, err := k.signer.SignMessage(bytes.NewReader(payload))
		if err != nil {
			return nil
		}
		sigs = append(sigs, metadata.Signature{KeyID: k.id, Signature: sig})
	}
	return sigs
}

// texts are what is no metadata at all, or hard to read.
func texts(t *testing.T, original []byte) map[string][]byte {
	t.Helper()
	many := func(n int, f func(i int) string) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			io.WriteString(&b, f(i))
		}
		return b.String()
	}
	with := func(before string) []byte { return []byte(strings.Replace(string(original), "{", "{"+before+",", 1)) }
	end := bytes.LastIndexByte(original, '}')
	after := func(text string) []byte { return []byte(string(original[:end]) + "," + text + "}") }
	signed := func(text string) []byte {
		return bytes.Replace(original, []byte(`"signed":{`), []byte(`"signed":{`+text+`,`), 1)
	}
	sig := func(i int) string { return fmt.Sprintf(`{"keyid":"%06d","sig":""}`, i) }
	return map[string][]byte{
		"nothing": nil, "a space": []byte(" "), "a word": []byte("nil"), "null": []byte("null"), "an array": []byte("[]"), "an object": []byte("{}"),
		"half": original[:len(original)/2], "twice": append(original[:len(original):len(original)], original...), "zeros": make([]byte, 1000),
		"binary": bytes.Repeat([]byte{0xff, 0xfe, 0x80}, 300), "UTF-16": []byte(strings.Join(strings.Split(string(original), ""), "\x00")),
		"deep arrays":             []byte(strings.Repeat("[", 15_000)),
		"deep objects":            []byte(strings.Repeat(`{"a":`, 3000)),
		"deep and closed":         with(`"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)),
		"deep after a quote":      with(`"x\\":"\"","y":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)),
		"wide":                    with(`"x":[` + many(7000, func(int) string { return "0" }) + "]"),
		"many signatures":         []byte(`{"signatures":[` + many(15_000, sig) + `],"signed":{"_type":"targets"}}`),
		"many signatures, twice":  after(`"signatures":[` + many(500, sig) + `]`),
		"a long number":           with(`"x":` + strings.Repeat("9", 10_000)),
		"a large exponent":        with(`"x":1e999999999`),
		"signed twice":            with(`"signed":{"_type":"root","version":1}`),
		"signed twice, after":     after(`"signed":null`),
		"signatures twice":        after(`"signatures":null`),
		"signed in other letters": after(`"Signed":{"version":99}`),
		"version twice":           signed(`"version":99`),
		"type twice":              signed(`"_type":"snapshot"`),
		"keys twice":              signed(`"keys":null`),
		"roles twice":             signed(`"roles":{"root":null}`),
		"targets twice":           signed(`"targets":{"obfs4.wasm":null}`),
		"meta twice":              signed(`"meta":{"snapshot.json":null,"targets.json":null}`),
	}
}

// TestAttackManySignatures: signatures are compared with each other before one of them is
// verified, so their number is bounded, or any mirror could make a look take minutes.
func TestAttackManySignatures(t *testing.T) {
	u, _, two := attacked(t)
	var b strings.Builder
	b.WriteString(`{"signed":{"_type":"targets","version":2,"expires":"2026-01-31T00:00:00Z","spec_version":"1.0.31","targets":{}},"signatures":[`)
	for i := 0; b.Len() < 5<<20-100; i++ {
		fmt.Fprintf(&b, `{"keyid":"%06d","sig":""},`, i)
	}
	b.WriteString(`{"keyid":"x","sig":""}]}`)
	forged := two.fork()
	forged.files["2.targets.json"] = []byte(b.String())
	u.refuses("signatures", forged.files)
	u.recovers(two)
}

// TestAttackKeys: keys that are none, in a root that is signed, hurt nobody, also where
// only their signatures are looked at.
func TestAttackKeys(t *testing.T) {
	t.Parallel()
	for name, k := range map[string]*metadata.Key{
		"null":           nil,
		"short":          {Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: "00"}},
		"empty":          {Type: "ed25519", Scheme: "ed25519"},
		"long":           {Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: strings.Repeat("00", 1000)}},
		"no point":       {Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: strings.Repeat("ff", 32)}},
		"of small order": {Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: "01" + strings.Repeat("00", 31)}},
		"no hex":         {Type: "ed25519", Scheme: "ed25519", Value: metadata.KeyVal{PublicKey: strings.Repeat("x", 64)}},
		"no PEM":         {Type: "rsa", Scheme: "rsassa-pss-sha256", Value: metadata.KeyVal{PublicKey: "x"}},
		"other scheme":   {Type: "ecdsa", Scheme: "x", Value: metadata.KeyVal{PublicKey: "-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----\n"}},
		"unknown":        {Type: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, used := range []bool{false, true} {
				r := newRepo(t)
				r.root.Signed.Keys["strange"] = k
				if used {
					r.root.Signed.Roles[metadata.TARGETS].KeyIDs = append(r.root.Signed.Roles[metadata.TARGETS].KeyIDs, "strange")
				}
				r.writeRoot(r.keys[metadata.ROOT])
				double(t, r.files, metadata.TARGETS, func(sigs []any) []any {
					return append(sigs, map[string]any{"keyid": "strange", "sig": strings.Repeat("00", 64)})
				})
				u := newUser(t, r)
				err := u.update(r.files)
				if !used && err != nil {
					t.Errorf("a key that no role uses: %v", err)
				}
				if !used && u.runs("obfs4") != content("obfs4", "1") {
					t.Error("obfs4 is not there")
				}
				u.onlyVerified()
			}
		})
	}
}
