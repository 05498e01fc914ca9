package main

import (
	"context"
	"fmt"
	"net"

	"waterproxy/internal/webfront"
)

// front is nginx in front of the servers of all contestants that are reached by HTTPS: it
// ends TLS, and passes a request for /PORT on to that port of the loopback interface. So
// all of them have the same certificate, ciphers and buffers.
type front struct {
	process *process
	address string // HOST:PORT where it listens
	pin     string // of its certificate, as a bridge line of webtunnel has it
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
