// Package clienthello describes ClientHellos that the library uTLS does not know. It is a part
// of the module webtunnel, which sends them, and of the program, which recognizes them.
package clienthello

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	tls "github.com/refraction-networking/utls"
)

// WebSocket returns what a browser of the library's (uTLS) sends for wss://. Browsers offer only
// HTTP/1.1 there, and with it no settings for the protocols above.
func WebSocket(id tls.ClientHelloID) (*tls.ClientHelloSpec, error) {
	spec, err := tls.UTLSIdToSpec(id)
	if err != nil {
		return nil, err
	}
	kept := spec.Extensions[:0]
	for _, e := range spec.Extensions {
		switch e := e.(type) {
		case *tls.ALPNExtension:
			e.AlpnProtocols = []string{"http/1.1"}
		case *tls.ApplicationSettingsExtension, *tls.ApplicationSettingsExtensionNew, *tls.NPNExtension:
			continue
		}
		kept = append(kept, e)
	}
	spec.Extensions = kept
	return &spec, nil
}

// What Chrome 156 sends beyond Chrome 133, which is the library's newest.
const (
	// Signatures with ML-DSA-44, 65 and 87 (draft-ietf-tls-mldsa).
	mldsa44, mldsa65, mldsa87 tls.SignatureScheme = 0x0904, 0x0905, 0x0906
	// extensionTrustAnchors names the authorities that the client trusts
	// (draft-ietf-tls-trust-anchor-ids).
	extensionTrustAnchors = 0xca34
)

// chromeTrustAnchors is that extension as Chrome 156 sends it: a list of authorities, each a
// relative object identifier with its length before it.
var chromeTrustAnchors = func() (list []byte) {
	for _, group := range []struct{ prefix, last string }{
		{"\x82\xdf\x13\x02", "\x01\x06\x0d\x0e\x0f\x12\x13\x14"},
		{"\x83\x9a\x64\x8c\x9b\x2d\x01", "\x07\x08\x09\x0a\x0b\x0c\x0d\x12\x13"},
		{"\xd6\x79\x09", "\x01\x04\x05\x06\x07\x08\x0a\x0b\x0c\x0d\x0f"},
	} {
		for _, last := range []byte(group.last) {
			list = append(append(append(list, byte(len(group.prefix)+1)), group.prefix...), last)
		}
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)
}()

// Chrome156WebSocket returns the hello of Chromium 156 for wss://, as it was captured.
func Chrome156WebSocket() (*tls.ClientHelloSpec, error) {
	spec, err := WebSocket(tls.HelloChrome_133)
	if err != nil {
		return nil, err
	}
	for _, e := range spec.Extensions {
		if s, ok := e.(*tls.SignatureAlgorithmsExtension); ok {
			s.SupportedSignatureAlgorithms = slices.Concat([]tls.SignatureScheme{tls.SignatureScheme(grease()), mldsa44, mldsa65, mldsa87},
				s.SupportedSignatureAlgorithms)
		}
	}
	spec.Extensions = tls.ShuffleChromeTLSExtensions(slices.Insert(spec.Extensions, 1,
		tls.TLSExtension(&tls.GenericExtension{Id: extensionTrustAnchors, Data: chromeTrustAnchors})))
	return spec, nil
}

// grease returns one of the 16 values that mean nothing (RFC 8701).
func grease() uint16 { return uint16(rand.IntN(16))*0x1010 + 0x0a0a }
