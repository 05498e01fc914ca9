package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/webfront"
	"waterproxy/transport"
)

// frontKind is what ends TLS for a pair.
type frontKind int

const (
	noFront  frontKind = iota // nothing: there is no TLS
	byNginx                   // nginx, which all such contestants of a run have in common
	byItself                  // the server, which is waterproxy
)

// front is nginx in front of the servers of all contestants that are reached by HTTPS: it
// ends TLS, and passes a request for /PORT on to that port of the loopback interface. So
// all of them have the same certificate, ciphers and buffers.
type front struct {
	process *process
	address string // HOST:PORT where it listens
	pin     string // of its certificate
}

// startFront starts nginx with a new certificate, and its files in a directory.
func startFront(ctx context.Context, dir string, l launch) (*front, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	files, err := webfront.Write(dir, ports[0])
	if err != nil {
		return nil, err
	}
	p, _, err := launchListener(ctx, "nginx -e stderr -c "+files.Config, ports[0], l)
	if err != nil {
		return nil, fmt.Errorf("the front (Debian package nginx-light): %w", err)
	}
	return &front{p, net.JoinHostPort("127.0.0.1", ports[0]), files.Pin}, nil
}

// stop ends nginx.
func (f *front) stop() error {
	_, err := f.process.stop()
	return err
}

// behind is what a pair needs to know of what ends TLS for it.
type behind struct {
	serverFlags            []string
	variables              ptproc.Variables // of the server
	serverArgs, clientArgs transport.Args
}

// behind returns what makes a pair use its front.
func (p *pairSpec) behind(ctx context.Context, l launch) (b behind, err error) {
	if p.front == noFront {
		return b, nil
	}
	ports, err := freePorts(1) // it has to be known before the server starts
	if err != nil {
		return b, err
	}
	port := ports[0]
	address, pin := net.JoinHostPort("127.0.0.1", port), ""
	if p.front == byNginx {
		f, err := l.front(ctx)
		if err != nil {
			return b, err
		}
		address, pin = f.address, f.pin
	} else {
		if b.serverFlags, pin, err = p.webServer(filepath.Join(l.state, "modules")); err != nil {
			return b, fmt.Errorf("the settings of the web server: %w", err)
		}
	}
	b.variables = ptproc.Variables{"TOR_PT_SERVER_BINDADDR": p.transport + "-127.0.0.1:" + port}
	b.serverArgs = transport.Args{"url": {"https://" + webfront.Name + "/" + port}}
	b.clientArgs = transport.Args{"addr": {address}, "cert": {pin}}
	return b, nil
}

// webServer writes the settings by which waterproxy is its own web server to a directory. It
// returns the flags for it and the pin of its new certificate.
func (p *pairSpec) webServer(dir string) (flags []string, pin string, err error) {
	if pin, err = webfront.WriteCertificate(dir); err != nil {
		return nil, "", err
	}
	const settings = "[web]\ncertificate = 'certificate.pem'\nkey = 'key.pem'\n"
	return []string{"-modules", dir}, pin, os.WriteFile(filepath.Join(dir, p.transport+".toml"), []byte(settings), 0o600)
}
