package integration

import (
	"maps"
	"net"
	"path/filepath"
	"testing"
	"time"

	"waterproxy/internal/settings"
	"waterproxy/internal/web"
	"waterproxy/internal/webfront"
	"waterproxy/transport"
)

// modulePair is a built-in module as client and server, by the library.
type modulePair struct {
	dialer   *transport.RuntimeDialer
	listener *transport.Listener
	args     transport.Args
}

func newModulePair(t *testing.T, name string, cfg transport.Config) *modulePair {
	t.Helper()
	return newModulePairOn(t, name, cfg, listenLoopback(t), transport.CompileOptions{}, transport.CompileOptions{})
}

// newModulePairOn is that with the server's listener, and how each of both is compiled.
func newModulePairOn(t *testing.T, name string, cfg transport.Config, inner net.Listener, client, server transport.CompileOptions) *modulePair {
	t.Helper()
	cache := t.TempDir()
	compile := func(o transport.CompileOptions) *transport.Module {
		o.CacheDir = cache
		module, err := transport.CompileFile(filepath.Join("..", "modules", "built", name+".wasm"), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { module.Close() })
		return module
	}
	var err error
	var more transport.Args // of the client, besides what the server publishes
	if name == "webtunnel" {
		inner, more = webServer(t, &cfg, inner)
	}
	cfg.Module, cfg.StateDir = compile(server), t.TempDir()
	p := &modulePair{}
	if p.listener, err = transport.Listen(t.Context(), cfg, inner); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.listener.Close() })
	if p.args = p.listener.Args(); more != nil {
		maps.Copy(p.args, more)
	}
	cfg.Module, cfg.StateDir, cfg.Args = compile(client), "", nil
	if p.dialer, err = transport.NewRuntimeDialer(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.dialer.Close() })
	return p
}

// webServer puts a web server with TLS before the server of a module, lets the module's client
// dial where its arguments say, and returns the arguments that lead there.
func webServer(t *testing.T, cfg *transport.Config, inner net.Listener) (net.Listener, transport.Args) {
	t.Helper()
	dir := t.TempDir()
	pin, err := webfront.WriteCertificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Parse(filepath.Join(dir, "webtunnel.toml"), []byte("[web]\ncertificate = 'certificate.pem'\nkey = 'key.pem'\n"))
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + webfront.Name + "/secret"
	front, err := web.Listen(inner, web.Config{Web: s.Web, URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { front.Close() })
	rule, err := transport.ParseAddressRule("@addr")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Allow, cfg.Args = []transport.AddressRule{rule}, transport.Args{"url": {url}}
	return front, transport.Args{"addr": {inner.Addr().String()}, "cert": {pin}}
}

// stats returns the figures of the client and of the server.
func (p *modulePair) stats() []transport.Stats {
	return []transport.Stats{p.dialer.Stats(), p.listener.Stats()}
}

func (p *modulePair) connect(t *testing.T) (near, far net.Conn) {
	t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := p.listener.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	near, err := p.dialer.Dial(t.Context(), "tcp", p.listener.Addr().String(), p.args)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	select {
	case far = <-accepted:
	case <-time.After(obfs4Patience):
		t.Fatalf("the server has not accepted it; it has %+v", p.listener.Stats())
	}
	if far == nil {
		t.FailNow()
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}
