package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"waterproxy/internal/webfront"
)

// front is an nginx before a server of WebTunnel, and what a server needs that is its own.
type front struct {
	address  string // of nginx
	backend  string // to which it passes on the secret path
	path     string // the secret path
	settings string // a directory with webtunnel.toml
	pin      string // of the certificate, as in a bridge line

	nginx *exec.Cmd
}

// nginxPatience is how long nginx may take until it listens.
const nginxPatience = 20 * time.Second

// startFront starts nginx with a certificate of its own, in a folder.
func startFront(ctx context.Context, dir string) (*front, error) {
	f := &front{settings: filepath.Join(dir, "settings")}
	var err error
	if f.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if f.backend, err = freeAddress(); err != nil {
		return nil, err
	}
	_, f.path, _ = net.SplitHostPort(f.backend) // it is the system's
	_, port, err := net.SplitHostPort(f.address)
	if err != nil {
		return nil, err
	}
	files, err := webfront.Write(filepath.Join(dir, "nginx"), port)
	if err != nil {
		return nil, err
	}
	f.pin = files.Pin
	if err := f.writeSettings(files); err != nil {
		return nil, err
	}
	f.nginx = exec.CommandContext(ctx, "nginx", "-e", "stderr", "-c", files.Config)
	f.nginx.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin")
	f.nginx.Cancel = func() error { return f.nginx.Process.Signal(syscall.SIGTERM) }
	f.nginx.Stderr = os.Stderr
	if err := f.nginx.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(nginxPatience); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", f.address)
		if err == nil {
			return f, c.Close()
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("nginx does not listen: %w", err), f.close())
		}
	}
}

// writeSettings writes those of a server that is its own web server.
func (f *front) writeSettings(files *webfront.Files) error {
	site := filepath.Join(f.settings, "site")
	if err := os.MkdirAll(site, 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(site, "index.html"), []byte("<!DOCTYPE html>\n<title>Example</title>\n<p>An example.\n"), 0o644),
		os.WriteFile(filepath.Join(f.settings, "webtunnel.toml"),
			fmt.Appendf(nil, "[web]\ncertificate = %q\nkey = %q\nsite = %q\n", files.Certificate, files.Key, site), 0o600))
}

func (f *front) close() error {
	if err := f.nginx.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = f.nginx.Wait() // it has been told to end
	return nil
}

// absolute names a program so that it is found from any folder.
func (f *front) absolute(program string) string {
	if !strings.Contains(program, "/") {
		return program
	}
	path, err := filepath.Abs(program)
	if err != nil {
		return program // starting it says what is wrong
	}
	return path
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
