package fingerprint

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	gotls "crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/refraction-networking/utls"
	"golang.org/x/crypto/cryptobyte"

	"waterproxy/internal/clienthello"
)

// hello is what the ClientHello of a test has.
type hello struct {
	version                                 uint16
	ciphers, extensions, groups, signatures []uint16
	versions                                []uint16
	formats                                 []byte
	alpn                                    []string
}

func (h hello) message() []byte {
	var b cryptobyte.Builder
	list := func(numbers []uint16) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) {
			for _, n := range numbers {
				b.AddUint16(n)
			}
		}
	}
	b.AddUint8(1)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(h.version)
		b.AddBytes(make([]byte, 32))
		b.AddUint8(0)
		b.AddUint16LengthPrefixed(list(h.ciphers))
		b.AddBytes([]byte{1, 0})
		if h.extensions == nil {
			return
		}
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, extension := range h.extensions {
				b.AddUint16(extension)
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
					switch extension {
					case extServerName:
						b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
							b.AddUint8(0)
							b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("example.org")) })
						})
					case extGroups:
						b.AddUint16LengthPrefixed(list(h.groups))
					case extSignatures:
						b.AddUint16LengthPrefixed(list(h.signatures))
					case extSupportedVersions:
						b.AddUint8LengthPrefixed(list(h.versions))
					case extPointFormats:
						b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(h.formats) })
					case extKeyShare:
						b.AddUint16(0)
					case extALPN:
						b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
							for _, name := range h.alpn {
								b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(name)) })
							}
						})
					}
				})
			}
		})
	})
	return b.BytesOrPanic()
}

// records spreads a message over TLS records of so many bytes.
func records(message []byte, size int) (stream []byte) {
	for part := range slices.Chunk(message, size) {
		stream = append(stream, 22, 3, 1, byte(len(part)>>8), byte(len(part)))
		stream = append(stream, part...)
	}
	return stream
}

func parse(t *testing.T, stream []byte) *ClientHello {
	t.Helper()
	h, err := ParseClientHello(stream)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func decimals(t *testing.T, text string) (numbers []uint16) {
	t.Helper()
	for word := range strings.SplitSeq(text, "-") {
		n, err := strconv.ParseUint(word, 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, uint16(n))
	}
	return numbers
}

// Published fingerprints: those of JA3's announcement, JA4's specification, and what a Chrome
// 143 was told by the check of browserleaks.com.
func TestPublishedVectors(t *testing.T) {
	signatures := []uint16{0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601}
	chromeCiphers := "4865-4866-4867-49195-49199-49196-49200-52393-52392-49171-49172-156-157-47-53"
	chrome143 := hello{
		version: 0x0303, ciphers: decimals(t, chromeCiphers),
		extensions: decimals(t, "45-51-16-65037-23-17613-0-11-10-43-65281-35-18-5-13-27"),
		groups:     []uint16{4588, 29, 23, 24}, formats: []byte{0}, signatures: signatures,
		versions: []uint16{0x0304, 0x0303}, alpn: []string{"h2", "http/1.1"},
	}
	greased := chrome143
	greased.ciphers = append([]uint16{0x2a2a}, greased.ciphers...)
	greased.extensions = append(append([]uint16{0xdada}, greased.extensions...), 0x0a0a)
	greased.groups = append([]uint16{0x7a7a}, greased.groups...)
	greased.versions = append([]uint16{0xfafa}, greased.versions...)
	specification := chrome143
	specification.extensions = []uint16{0x1b, 0, 0x33, 0x10, 0x4469, 0x17, 0x2d, 0xd, 5, 0x23, 0x12, 0x2b, 0xff01, 0xb, 0xa, 0x15}

	for name, test := range map[string]struct {
		hello             hello
		ja3, sorted, want string
	}{
		"announcement": {
			hello: hello{version: 769, ciphers: decimals(t, "47-53-5-10-49161-49162-49171-49172-50-56-19-4"),
				extensions: []uint16{0, 10, 11}, groups: []uint16{23, 24, 25}, formats: []byte{0}},
			ja3: "ada70206e40642a3e4461f35503241d5", sorted: "ada70206e40642a3e4461f35503241d5",
		},
		"announcement, no extensions": {
			hello: hello{version: 769, ciphers: decimals(t, "4-5-10-9-100-98-3-6-19-18-99")},
			ja3:   "de350869b8c85de67a350c8d186f11e6",
		},
		"chrome 143": {
			hello: chrome143, ja3: "98487aa16281980e7d1120d399efb6a4", sorted: "8e19337e7524d2573be54efb2b0784c9",
			want: "t13d1516h2_8daaf6152771_d8a2da3f94cd",
		},
		"chrome 143 with GREASE": {
			hello: greased, ja3: "98487aa16281980e7d1120d399efb6a4", sorted: "8e19337e7524d2573be54efb2b0784c9",
			want: "t13d1516h2_8daaf6152771_d8a2da3f94cd",
		},
		"specification": {hello: specification, want: "t13d1516h2_8daaf6152771_e5627efa2ab1"},
	} {
		for _, size := range []int{1 << 14, 100, 1} {
			h := parse(t, records(test.hello.message(), size))
			if test.ja3 != "" && h.JA3() != test.ja3 {
				t.Errorf("%s: JA3 %s of %s", name, h.JA3(), h.JA3Text())
			}
			if test.sorted != "" && h.JA3Sorted() != test.sorted {
				t.Errorf("%s: sorted JA3 %s", name, h.JA3Sorted())
			}
			if test.want != "" && h.JA4() != test.want {
				t.Errorf("%s: JA4 %s", name, h.JA4())
			}
		}
	}
}

// The first part of JA4 in the cases that its specification sets out.
func TestJA4FirstPart(t *testing.T) {
	many := make([]uint16, 120)
	for i := range many {
		many[i] = uint16(0xc000 + i)
	}
	for want, h := range map[string]hello{
		"t12i010000": {version: 0x0303, ciphers: []uint16{1}},
		"t10d0002dq": {version: 0x0301, extensions: []uint16{extServerName, extALPN}, alpn: []string{"dotq"}},
		"ts3i990000": {version: 0x0300, ciphers: many},
		"t00i000000": {version: 0x7f17},
		"t13i0002h1": {version: 0x0303, extensions: []uint16{extALPN, extSupportedVersions}, alpn: []string{"http/1.1"}, versions: []uint16{0x0a0a, 0x0303, 0x0304}},
		"t12i0001xx": {version: 0x0303, extensions: []uint16{extALPN}, alpn: []string{"x"}},
		"t12i00013d": {version: 0x0303, extensions: []uint16{extALPN}, alpn: []string{"0m\xcd"}},
		"t12i0001ab": {version: 0x0303, extensions: []uint16{extALPN}, alpn: []string{"\xab"}},
		"t12i000100": {version: 0x0303, extensions: []uint16{extALPN}, alpn: []string{""}},
	} {
		got, _, _ := strings.Cut(parse(t, records(h.message(), 1000)).JA4(), "_")
		if got != want {
			t.Errorf("%+v: %s, not %s", h, got, want)
		}
	}
	if got := parse(t, records(hello{version: 0x0303}.message(), 1000)).JA4(); got != "t12i000000_000000000000_000000000000" {
		t.Errorf("with neither ciphers nor extensions: %s", got)
	}
}

// What Go's own client sends is read as Go's own server reads it.
func TestFields(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	var seen *gotls.ClientHelloInfo
	taken := &recorded{Conn: server}
	done := make(chan error, 1)
	go func() {
		done <- gotls.Server(taken, &gotls.Config{GetConfigForClient: func(info *gotls.ClientHelloInfo) (*gotls.Config, error) {
			seen = info
			return nil, errTaken
		}}).Handshake()
	}()
	err := gotls.Client(client, &gotls.Config{ServerName: "bridge.example", NextProtos: []string{"h2", "x"}}).Handshake()
	if err == nil {
		t.Fatal("the handshake did not end")
	}
	if err := <-done; !errors.Is(err, errTaken) {
		t.Fatal(err)
	}
	h := parse(t, taken.read.Bytes())
	groups := make([]uint16, len(seen.SupportedCurves))
	for i, g := range seen.SupportedCurves {
		groups[i] = uint16(g)
	}
	signatures := make([]uint16, len(seen.SignatureSchemes))
	for i, s := range seen.SignatureSchemes {
		signatures[i] = uint16(s)
	}
	if h.ServerName != seen.ServerName || !slices.Equal(h.ALPN, seen.SupportedProtos) || !slices.Equal(h.Versions, seen.SupportedVersions) ||
		!slices.Equal(h.Ciphers, seen.CipherSuites) || !bytes.Equal(h.PointFormats, seen.SupportedPoints) ||
		!slices.Equal(h.Groups, groups) || !slices.Equal(h.Signatures, signatures) {
		t.Errorf("read %+v where Go's server reads %+v", h, seen)
	}
	types := make([]uint16, len(h.Extensions))
	for i, e := range h.Extensions {
		types[i] = e.Type
	}
	if !slices.Equal(types, seen.Extensions) || h.Length != taken.read.Len() || h.Records != 1 || len(h.KeyShares) == 0 {
		t.Errorf("extensions %v of %d bytes in %d records, where Go's server reads %v of %d", types, h.Length, h.Records, seen.Extensions, taken.read.Len())
	}
	if names, err := Identify(h); err != nil || !slices.Contains(names, "Go crypto/tls") && !slices.Contains(names, "Go crypto/tls but for SNI or ALPN") {
		t.Errorf("identified as %q (%v)", names, err)
	}
}

type recorded struct {
	net.Conn
	read bytes.Buffer
}

func (c *recorded) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Write(b[:n])
	return n, err
}

// Each beginning of a ClientHello is incomplete, and nothing else is taken for one.
func TestBeginnings(t *testing.T) {
	whole := records(hello{version: 0x0303, ciphers: []uint16{1, 2}, extensions: []uint16{extServerName}}.message(), 20)
	for n := range whole {
		if _, err := ParseClientHello(whole[:n]); !errors.Is(err, ErrIncomplete) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
	if h := parse(t, append(slices.Clone(whole), "more"...)); h.Length != len(whole) || h.ServerName != "example.org" {
		t.Errorf("%d bytes of %d, for %q", h.Length, len(whole), h.ServerName)
	}
	for _, text := range []string{"GET / HTTP/1.1\r\n", "\x16\x02", "\x17\x03\x03\x00\x01\x01", "\x16\x03\x01\x00\x00", "\x16\x03\x01\xff\xff", "\x16\x03\x01\x00\x01\x02",
		"\x16\x03\x01\x00\x04\x01\xff\xff\xff", "\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03"} {
		if _, err := ParseClientHello([]byte(text)); !errors.Is(err, ErrNotClientHello) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A known client is recognized by what uTLS sends for it, with shuffled extensions too.
func TestIdentify(t *testing.T) {
	known, err := Known()
	if err != nil {
		t.Fatal(err)
	}
	if want := 2*len(imitated) + 3; len(known) != want {
		t.Errorf("%d known clients, not %d", len(known), want)
	}
	for _, id := range imitated {
		raw, err := Imitation(id)
		if err != nil {
			t.Fatal(err)
		}
		h := parse(t, raw)
		names, err := Identify(h)
		if err != nil || !slices.Contains(names, id.Client+" "+id.Version) {
			t.Errorf("%s %s is identified as %q (%v)", id.Client, id.Version, names, err)
		}
	}
	socket, err := ofSpec(clienthello.Chrome156WebSocket)
	if err != nil {
		t.Fatal(err)
	}
	if names, err := Identify(parse(t, socket)); err != nil || !slices.Equal(names, []string{"Chrome 156 for wss://"}) {
		t.Errorf("Chrome 156 is identified as %q (%v)", names, err)
	}
	raw, err := Imitation(tls.HelloChrome_133)
	if err != nil {
		t.Fatal(err)
	}
	if h := parse(t, raw); h.JA4() != "t13d1516h2_8daaf6152771_d8a2da3f94cd" {
		t.Errorf("Chrome 133 has JA4 %s", h.JA4())
	}
	if names, err := Identify(parse(t, records(hello{version: 0x0303, ciphers: []uint16{1}}.message(), 1000))); err != nil || len(names) != 0 {
		t.Errorf("a client of one cipher is identified as %q (%v)", names, err)
	}
}

// No stream makes the parser panic, and what it reads can be described.
func FuzzParseClientHello(f *testing.F) {
	f.Add(records(hello{version: 0x0303, ciphers: []uint16{1}, extensions: []uint16{0, 10, 11, 13, 16, 43, 51}, alpn: []string{"h2"}}.message(), 30))
	if raw, err := hex.DecodeString("1603010005010000010303"); err == nil {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		h, err := ParseClientHello(stream)
		if err != nil {
			if !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrNotClientHello) {
				t.Fatal(err)
			}
			return
		}
		if len(h.JA3()) != 32 || len(h.JA3Sorted()) != 32 || len(h.JA4()) != 36 || h.Length > len(stream) {
			t.Fatalf("%s %s %s, %d bytes of %d", h.JA3(), h.JA3Sorted(), h.JA4(), h.Length, len(stream))
		}
	})
}

// What a server has chosen is read as its client has understood it.
func TestServerHello(t *testing.T) {
	certificate := selfSigned(t)
	for _, version := range []uint16{gotls.VersionTLS12, gotls.VersionTLS13} {
		near, far := net.Pipe()
		taken := &recorded{Conn: near}
		done := make(chan error, 1)
		go func() {
			done <- gotls.Server(far, &gotls.Config{Certificates: []gotls.Certificate{certificate}}).Handshake()
		}()
		client := gotls.Client(taken, &gotls.Config{InsecureSkipVerify: true, MaxVersion: version})
		if err := client.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		h, err := ParseServerHello(taken.read.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if state := client.ConnectionState(); h.Version != state.Version || h.Cipher != state.CipherSuite {
			t.Errorf("%+v, and the client has %x and %x", h, state.Version, state.CipherSuite)
		}
		first := taken.read.Bytes()
		for n := range 5 + (int(first[3])<<8 | int(first[4])) {
			if _, err := ParseServerHello(first[:n]); !errors.Is(err, ErrNotServerHello) {
				t.Fatalf("the first %d bytes: %v", n, err)
			}
		}
		near.Close()
		far.Close()
	}
}

func selfSigned(t *testing.T) gotls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return gotls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
