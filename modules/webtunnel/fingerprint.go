package main

import (
	"strings"

	tls "github.com/refraction-networking/utls"

	"waterproxy/internal/clienthello"
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
		f := &fingerprint{library: id, spec: func() (*tls.ClientHelloSpec, error) { return clienthello.WebSocket(id) }}
		if version, ok := strings.CutPrefix(name, "hellochrome_"); ok {
			f.chrome = version
		}
		all[name] = f
	}
	return all
}()

// chrome156 is what Chrome 156 sends for a WebSocket, with a ticket if there is one.
func chrome156() (*tls.ClientHelloSpec, error) {
	spec, err := clienthello.Chrome156WebSocket()
	if err != nil {
		return nil, err
	}
	spec.Extensions = append(spec.Extensions, &tls.UtlsPreSharedKeyExtension{}) // left out without a ticket
	return spec, nil
}
