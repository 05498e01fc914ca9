package fingerprint

import (
	gotls "crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/refraction-networking/utls"

	"waterproxy/internal/clienthello"
)

// imitated lists the clients that uTLS can imitate, as browsers that load pages; what those
// send for WebSockets is another ClientHello. Their fingerprints are computed from its
// descriptions, so a newer uTLS brings newer ones. Randomized ones are none of a known client;
// those that resume a session (PSK) need one first.
var imitated = []tls.ClientHelloID{
	tls.HelloChrome_58, tls.HelloChrome_62, tls.HelloChrome_70, tls.HelloChrome_72, tls.HelloChrome_83,
	tls.HelloChrome_87, tls.HelloChrome_96, tls.HelloChrome_100, tls.HelloChrome_102, tls.HelloChrome_106_Shuffle,
	tls.HelloChrome_115_PQ, tls.HelloChrome_120, tls.HelloChrome_120_PQ, tls.HelloChrome_131, tls.HelloChrome_133,
	tls.HelloFirefox_55, tls.HelloFirefox_56, tls.HelloFirefox_63, tls.HelloFirefox_65, tls.HelloFirefox_99,
	tls.HelloFirefox_102, tls.HelloFirefox_105, tls.HelloFirefox_120,
	tls.HelloIOS_11_1, tls.HelloIOS_12_1, tls.HelloIOS_13, tls.HelloIOS_14, tls.HelloAndroid_11_OkHttp,
	tls.HelloEdge_85, tls.HelloEdge_106, tls.HelloSafari_16_0, tls.Hello360_7_5, tls.Hello360_11_0, tls.HelloQQ_11_1,
}

// Client is a program whose fingerprint is known.
type Client struct {
	Name string // as in "Chrome 133" or "Go crypto/tls"
	JA4  string // towards a domain, without padding; see unpadded
}

// unpadded returns h without its padding extension (RFC 7685). Whether there is one depends
// on the length of the rest, in which browsers' ECH extensions have a random part.
func (h *ClientHello) unpadded() *ClientHello {
	u := *h
	u.Extensions = slices.DeleteFunc(slices.Clone(h.Extensions), func(e Extension) bool { return e.Type == extPadding })
	return &u
}

// Known returns the clients that can be recognized, each with its fingerprint. It computes
// them once, in some milliseconds; the error says which one could not be.
var Known = sync.OnceValues(func() ([]Client, error) {
	var all []Client
	var problems []error
	add := func(name string, hello []byte, err error) {
		if err == nil {
			var h *ClientHello
			if h, err = ParseClientHello(hello); err == nil {
				all = append(all, Client{name, h.unpadded().JA4()})
				return
			}
		}
		problems = append(problems, fmt.Errorf("ClientHello of %s: %w", name, err))
	}
	for _, id := range imitated {
		hello, err := Imitation(id)
		add(id.Client+" "+id.Version, hello, err)
	}
	for _, id := range imitated {
		hello, err := ofSpec(func() (*tls.ClientHelloSpec, error) { return clienthello.WebSocket(id) })
		add(id.Client+" "+id.Version+" for wss://", hello, err)
	}
	hello, err := ofSpec(clienthello.Chrome156WebSocket)
	add("Chrome 156 for wss://", hello, err)
	for _, protocols := range [][]string{nil, {"h2", "http/1.1"}} {
		hello, err := goHello(protocols)
		add("Go crypto/tls", hello, err)
	}
	return all, errors.Join(problems...)
})

// placeholder is the name for which ClientHellos are made.
const placeholder = "www.example.com"

// Imitation returns the bytes, with record header, of the ClientHello that uTLS makes for id.
func Imitation(id tls.ClientHelloID) ([]byte, error) {
	return built(tls.UClient(nil, &tls.Config{ServerName: placeholder}, id))
}

func built(c *tls.UConn) ([]byte, error) {
	if err := c.BuildHandshakeState(); err != nil {
		return nil, err
	}
	raw := c.HandshakeState.Hello.Raw
	return append([]byte{recordHandshake, 3, 1, byte(len(raw) >> 8), byte(len(raw))}, raw...), nil
}

// ofSpec returns the bytes of a description's ClientHello.
func ofSpec(describe func() (*tls.ClientHelloSpec, error)) ([]byte, error) {
	spec, err := describe()
	if err != nil {
		return nil, err
	}
	c := tls.UClient(nil, &tls.Config{ServerName: placeholder}, tls.HelloCustom)
	if err := c.ApplyPreset(spec); err != nil {
		return nil, err
	}
	return built(c)
}

// errTaken ends a handshake of which the first bytes are all that matters.
var errTaken = errors.New("the ClientHello has been taken")

// firstWrite is a connection that keeps what is written first and then fails.
type firstWrite struct {
	net.Conn
	taken []byte
}

func (c *firstWrite) Write(b []byte) (int, error) {
	c.taken = slices.Clone(b)
	return 0, errTaken
}

func (*firstWrite) Close() error { return nil }

// goHello returns what Go's own client sends.
func goHello(protocols []string) ([]byte, error) {
	var c firstWrite
	err := gotls.Client(&c, &gotls.Config{ServerName: placeholder, NextProtos: protocols}).Handshake()
	if !errors.Is(err, errTaken) {
		return nil, err
	}
	return c.taken, nil
}

// Identify names the known clients that have the fingerprint of h, and none if no known
// client has it. Where only SNI or ALPN differ, which the destination decides, it says so.
// Clients that have one fingerprint are all named.
func Identify(h *ClientHello) ([]string, error) {
	known, err := Known()
	if err != nil {
		return nil, err
	}
	ja4 := h.unpadded().JA4()
	_, hashes, _ := strings.Cut(ja4, "_")
	var exact, alike []string
	for _, c := range known {
		if c.JA4 == ja4 {
			exact = append(exact, c.Name)
		} else if strings.HasSuffix(c.JA4, hashes) {
			alike = append(alike, c.Name+" but for SNI or ALPN")
		}
	}
	if len(exact) > 0 {
		alike = nil
	}
	names := append(exact, alike...)
	slices.Sort(names)
	return slices.Compact(names), nil
}
