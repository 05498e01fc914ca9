package main

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"
)

// TestFingerprints: each fingerprint gets a connection, from a server that would choose HTTP/2
// if it were offered, and the request within is of the same browser.
func TestFingerprints(t *testing.T) {
	ecdsaCert, rsaCert := certificate(t, ecdsaKey(), nil), certificate(t, rsaKey(), nil)
	for name, f := range fingerprints {
		for _, cert := range []tls.Certificate{ecdsaCert, rsaCert} {
			offered := make(chan []string, 1)
			config := &tls.Config{NextProtos: []string{"h2", http11}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				offered <- h.SupportedProtos
				return nil, nil
			}, Certificates: []tls.Certificate{cert}}
			agent := make(chan string, 1)
			done := t.Context().Done()
			dial := listen(t, func(conn net.Conn) {
				far := tls.Server(conn, config)
				head, _, err := readHead(far, func([]byte) error { return nil })
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				_, fields, _ := parseHead(head)
				agent <- fields.Get("User-Agent")
				if _, err := far.Write([]byte(switching)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				<-done
			})
			if _, err := connect(t, newWebtunnel(), bridgeArgs(cert, "utls", strings.ToUpper(name)), dial); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if protos := <-offered; slices.Contains(protos, "h2") {
				t.Errorf("%s offers %q", name, protos)
			}
			want := "Go-http-client/1.1"
			if f.chrome != "" {
				want = "Chrome/" + f.chrome + "."
			}
			if got := <-agent; !strings.Contains(got, want) {
				t.Errorf("%s calls itself %q, want %q", name, got, want)
			}
		}
	}
}
