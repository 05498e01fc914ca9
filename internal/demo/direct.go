package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"waterproxy/internal/display"
	"waterproxy/internal/ptargs"
	"waterproxy/internal/ptproc"
)

type directOptions struct {
	transport      string
	client, server []string // command lines
	folder         *folder
	orPort         string // where the server's end delivers connections
	show           *display.Display
}

// direct is the stack without tor: this process asks the client's end for
// connections as tor would and receives them from the server's end.
type direct struct {
	client, server *ptproc.Process
	socks, bridge  ptproc.Method // what the two announce
	fetcher        *http.Client
	second         *http.Client // of anew
}

func startDirect(ctx context.Context, o directOptions) (stack, error) {
	d := &direct{}
	if err := d.start(ctx, o); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *direct) start(ctx context.Context, o directOptions) error {
	var err error
	report := o.show.Stage(stageServer)
	report(0)
	dir := filepath.Join(o.folder.path, "server")
	variables := ptproc.Server(stateIn(dir), o.orPort, o.transport)
	if d.server, d.bridge, err = launch(ctx, "the server's end", o.server, variables, dir, o.transport); err != nil {
		return err
	}
	report(100)
	report = o.show.Stage(stageClient)
	report(0)
	dir = filepath.Join(o.folder.path, "client")
	variables = ptproc.Client(stateIn(dir), o.transport)
	if d.client, d.socks, err = launch(ctx, "the client's end", o.client, variables, dir, o.transport); err != nil {
		return err
	}
	report(100)
	d.fetcher = bridgeClient(d.socks.Address, d.bridge)
	return nil
}

// negotiationLimit is how long a transport may take to say where it listens; most of
// it is for compiling the module, which takes under a second on a machine that has
// nothing else to do.
const negotiationLimit = time.Minute

// stopLimit is how long a transport may live on when it is asked to end. Tests change it.
var stopLimit = ptproc.DefaultStopLimit

// tailLines is how many of a transport's last lines an error shows.
const tailLines = 20

// launch starts a process for one transport in a new folder, and waits until it listens.
// It returns the process, if it has begun, also with an error.
func launch(ctx context.Context, name string, command []string, variables ptproc.Variables, dir, transport string) (*ptproc.Process, ptproc.Method, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, ptproc.Method{}, err
	}
	p := ptproc.New(variables.AddTo(ptproc.CleanEnvironment()), command...)
	p.Name, p.Cmd.Dir, p.StopLimit = name, dir, stopLimit
	p.Stdout.Keep = tailLines // it may run for days
	p.Stderr = p.Stdout
	if err := p.Start(); err != nil {
		return nil, ptproc.Method{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, negotiationLimit)
	defer cancel()
	m, err := p.Method(ctx, transport)
	return p, m, err
}

// stateIn returns the state directory of a process. tor ends its name in a separator.
func stateIn(dir string) string { return filepath.Join(dir, "pt_state") + string(filepath.Separator) }

// bridgeClient returns an HTTP client that asks the client's end, at socks, for
// a connection to the bridge, whatever the URL: behind the bridge there is only
// one server.
func bridgeClient(socks string, bridge ptproc.Method) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return ptproc.Dial(ctx, socks, bridge.Address, bridge.Args)
		},
	}}
}

func (d *direct) http() *http.Client { return d.fetcher }

func (d *direct) replaced(ctx context.Context, sum string) error {
	for _, p := range []*ptproc.Process{d.server, d.client} {
		if _, err := p.Stdout.Await(ctx, usesNew(sum), p.Exited()); err != nil {
			return err
		}
	}
	return nil
}

func (d *direct) anew(_ context.Context, progress func(int)) (*http.Client, error) {
	progress(0)
	d.second = bridgeClient(d.socks.Address, d.bridge)
	return d.second, nil
}

func (d *direct) usage() string {
	usage := fmt.Sprintf("The client's SOCKS proxy: %s; the bridge to ask it for: %s", d.socks.Address, d.bridge.Address)
	if args := ptargs.Format(d.bridge.Args); args != "" {
		usage += " with the user name " + args
	}
	return usage
}

func (d *direct) ended() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		// It ends at the latest when the stack is closed.
		select {
		case <-d.client.Exited():
		case <-d.server.Exited():
		}
		close(ended)
	}()
	return ended
}

func (d *direct) explain(err error) error {
	return fmt.Errorf("%w\nthe server's end said:\n%s\nthe client's end said:\n%s", err, d.server.Tail(), d.client.Tail())
}

func (d *direct) close() error {
	for _, c := range []*http.Client{d.fetcher, d.second} {
		if c != nil {
			c.CloseIdleConnections()
		}
	}
	var errs []error
	for _, p := range []*ptproc.Process{d.client, d.server} {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	return errors.Join(errs...)
}
