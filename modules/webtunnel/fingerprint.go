package main

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"

	tls "github.com/refraction-networking/utls"
)

// fingerprint is how a client's TLS looks, and its request within.
type fingerprint struct {
	library tls.ClientHelloID
	// spec makes the client's hello; nil if the library does, which needs no change then.
	spec func() (*tls.ClientHelloSpec, error)
	// chrome is the version of Chrome whose request goes with it; empty if there is none.
	chrome string
	// resumes: a later connection begins with a ticket of an earlier one.
	resumes bool
}

// id returns what the library is to be asked for.
func (f *fingerprint) id() tls.ClientHelloID {
	if f.spec != nil {
		return tls.HelloCustom
	}
	return f.library
}

// protocols is what a fingerprint that the library makes offers within TLS, if anything:
// only what HTTP/1.1 can be upgraded in.
func (f *fingerprint) protocols() []string {
	if f.library == tls.HelloGolang {
		return nil
	}
	return []string{http11}
}

// agent is the User-Agent, empty if the request is not a browser's.
func (f *fingerprint) agent() string {
	if f.chrome == "" {
		return ""
	}
	return "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/" + f.chrome + ".0.0.0 Safari/537.36"
}

// none is the name of Go's own TLS.
const none = "none"

// findFingerprint returns the fingerprint of a name, in any case, nil if it is unknown.
// Without a name it is that of the newest Chrome.
func findFingerprint(name string) *fingerprint {
	if name == "" {
		name = "hellochrome_auto"
	}
	return fingerprints[strings.ToLower(name)]
}

// fingerprints are those that the other clients of the protocol know, by their names for
// them, and newer ones.
var fingerprints = func() map[string]*fingerprint {
	golang := &fingerprint{library: tls.HelloGolang}
	newest := &fingerprint{spec: chrome156, chrome: "156", resumes: true}
	all := map[string]*fingerprint{
		none: golang, "hellogolang": golang,
		"hellochrome_auto": newest, "hellochrome_156": newest,
		"hellorandomized":       {library: tls.HelloRandomized},
		"hellorandomizedalpn":   {library: tls.HelloRandomizedALPN},
		"hellorandomizednoalpn": {library: tls.HelloRandomizedNoALPN},
	}
	for name, id := range map[string]tls.ClientHelloID{
		"hellofirefox_auto": tls.HelloFirefox_Auto, "hellofirefox_55": tls.HelloFirefox_55, "hellofirefox_56": tls.HelloFirefox_56,
		"hellofirefox_63": tls.HelloFirefox_63, "hellofirefox_65": tls.HelloFirefox_65, "hellofirefox_99": tls.HelloFirefox_99,
		"hellofirefox_102": tls.HelloFirefox_102, "hellofirefox_105": tls.HelloFirefox_105, "hellofirefox_120": tls.HelloFirefox_120,
		"hellochrome_58": tls.HelloChrome_58, "hellochrome_62": tls.HelloChrome_62, "hellochrome_70": tls.HelloChrome_70,
		"hellochrome_72": tls.HelloChrome_72, "hellochrome_83": tls.HelloChrome_83, "hellochrome_87": tls.HelloChrome_87,
		"hellochrome_96": tls.HelloChrome_96, "hellochrome_100": tls.HelloChrome_100, "hellochrome_102": tls.HelloChrome_102,
		"hellochrome_120": tls.HelloChrome_120, "hellochrome_131": tls.HelloChrome_131, "hellochrome_133": tls.HelloChrome_133,
		"helloios_auto": tls.HelloIOS_Auto, "helloios_11_1": tls.HelloIOS_11_1, "helloios_12_1": tls.HelloIOS_12_1,
		"helloios_13": tls.HelloIOS_13, "helloios_14": tls.HelloIOS_14, "helloandroid_11": tls.HelloAndroid_11_OkHttp,
		"helloedge_auto": tls.HelloEdge_Auto, "helloedge_85": tls.HelloEdge_85, "helloedge_106": tls.HelloEdge_106,
		"hellosafari_auto": tls.HelloSafari_Auto, "hellosafari_16_0": tls.HelloSafari_16_0,
		"hello360_auto": tls.Hello360_Auto, "hello360_7_5": tls.Hello360_7_5, "hello360_11_0": tls.Hello360_11_0,
		"helloqq_auto": tls.HelloQQ_Auto, "helloqq_11_1": tls.HelloQQ_11_1,
	} {
		f := &fingerprint{library: id, spec: func() (*tls.ClientHelloSpec, error) { return webSocketSpec(id) }}
		if version, ok := strings.CutPrefix(name, "hellochrome_"); ok {
			f.chrome = version
		}
		all[name] = f
	}
	return all
}()

// webSocketSpec is what a browser of the library's sends for wss://. Browsers offer only
// HTTP/1.1 there, and with it no settings for the protocols above.
func webSocketSpec(id tls.ClientHelloID) (*tls.ClientHelloSpec, error) {
	spec, err := tls.UTLSIdToSpec(id)
	if err != nil {
		return nil, err
	}
	kept := spec.Extensions[:0]
	for _, e := range spec.Extensions {
		switch e := e.(type) {
		case *tls.ALPNExtension:
			e.AlpnProtocols = []string{http11}
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

// chrome156 is the hello of Chromium 156 for wss://, as it was captured.
func chrome156() (*tls.ClientHelloSpec, error) {
	spec, err := webSocketSpec(tls.HelloChrome_133)
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
	spec.Extensions = append(spec.Extensions, &tls.UtlsPreSharedKeyExtension{}) // left out without a ticket
	return spec, nil
}

// grease returns one of the 16 values that mean nothing (RFC 8701).
func grease() uint16 { return uint16(rand.IntN(16))*0x1010 + 0x0a0a }
