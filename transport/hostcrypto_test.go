package transport

import (
	"slices"
	"strings"
	"testing"

	"waterproxy/transport/testmodules"
)

// TestCryptoHeaders: the headers for C and Rust have every function of the host's
// cryptography, with its type, and modules that use them get what they should.
func TestCryptoHeaders(t *testing.T) {
	const functions = 20
	for _, name := range []string{"probe_crypto_v1", "probe_rust_crypto_v1"} {
		t.Run(name, func(t *testing.T) {
			m, err := Compile(testmodules.Load(t, name), CompileOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			imports := slices.DeleteFunc(m.Imports(), func(name string) bool { return !strings.HasPrefix(name, "water_crypto_v1.") })
			if len(imports) != functions || !m.HostCrypto() {
				t.Errorf("it imports %q, want %d functions", imports, functions)
			}
			d, err := NewRuntimeConnDialer(Config{Module: m})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := d.Start(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := NewRuntimeConnDialer(Config{Module: m, NoHostCrypto: true}); err == nil || !strings.Contains(err.Error(), "switched off") {
				t.Errorf("switched off: %v", err)
			}
		})
	}
}
