// Package demo shows the executable at work on this machine alone: it boots a
// private Tor network in which tor launches the executable at both ends of a
// connection, fetches a file through it and prints what passed through the
// module.
//
// Without tor the same two processes are started the way tor would start them,
// and this package plays tor's parts.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"waterproxy/internal/display"
	"waterproxy/internal/tornet"
)

// DefaultSize is the size of the file that is fetched.
const DefaultSize = 16 << 20

// DefaultTransport is the transport that is shown.
const DefaultTransport = "plain"

// Options say what is shown.
type Options struct {
	// Transport is the name of the transport; DefaultTransport if empty.
	Transport string
	// Update publishes the module in a repository, as [UpdateTransport], from which both
	// ends get it, and then a new version while the file is fetched.
	Update bool
	// Module is the transport's module, for Update.
	Module []byte
	// ModuleSHA256 is the SHA-256 of the transport's module in hexadecimal
	// digits, for the table at the end.
	ModuleSHA256 string
	// Executable is the program that is launched as a pluggable transport;
	// if empty it is the one that runs.
	Executable string
	// Args are given to Executable at both ends, for example to load a
	// module from a file. tor cannot pass words with white space.
	Args []string
	// NoTor leaves tor out.
	NoTor bool
	// Keep leaves everything running after the fetch until the context ends.
	Keep bool
	// Size is the size of the file in bytes; DefaultSize if 0.
	Size int64
	// Out is where the demonstration is shown; standard output if nil.
	Out io.Writer
}

// withDefaults returns a copy with nothing left out.
func (o Options) withDefaults() (Options, error) {
	if o.Transport == "" {
		o.Transport = DefaultTransport
	}
	if o.Size == 0 {
		o.Size = DefaultSize
	}
	if o.Size < 0 {
		return o, fmt.Errorf("a file of %d bytes cannot be", o.Size)
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	if o.Executable == "" {
		path, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("cannot tell which program this is: %w", err)
		}
		o.Executable = path
	}
	// It is started from other folders than this one.
	path, err := filepath.Abs(o.Executable)
	o.Executable = path
	return o, err
}

// stack is a running pair of transport processes with all that is around it.
type stack interface {
	// http returns a client whose connections go through the module.
	http() *http.Client
	// replaced waits until new connections use the module with a SHA-256 at both ends.
	replaced(ctx context.Context, sum string) error
	// anew returns a client whose first connection begins anew at both ends of the
	// module. It is called once.
	anew(ctx context.Context, progress func(percent int)) (*http.Client, error)
	// usage tells users of the machine how to use the stack.
	usage() string
	// ended returns a channel that is closed when a part ends unasked.
	ended() <-chan struct{}
	// explain adds to an error what the parts have to say about it.
	explain(error) error
	// close ends every process and waits until it is gone.
	close() error
}

// Run shows a transport at work. It returns when the file has been fetched, or
// with Keep when ctx ends; by then every process that it started is gone and
// its files are removed.
func Run(ctx context.Context, o Options) (err error) {
	o, err = o.withDefaults()
	if err != nil {
		return err
	}
	place, err := newFolder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.remove()) }()
	web, err := tornet.StartWeb(o.Size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, web.Close()) }()

	show := display.New(o.Out, titles)
	defer show.Close()
	fetch := fetch
	if o.Update {
		repo, err := newRepository(ctx, o, place, show)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, repo.close()) }()
		o.Transport, o.Args = UpdateTransport, slices.Concat(o.Args, repo.flags())
		fetch = repo.fetch
	}
	running, err := start(ctx, o, place, web, show)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, running.close()) }()
	if err := fetch(ctx, o, place, web, show, running); err != nil {
		if ctx.Err() != nil {
			return err // whoever gave it up does not ask why it took so long
		}
		return running.explain(err)
	}
	if o.Keep {
		return keep(ctx, o.Out, running)
	}
	return nil
}

// start starts the two transport processes, with tor around them or without.
func start(ctx context.Context, o Options, place *folder, web *tornet.Web, show *display.Display) (stack, error) {
	// Only the client's end is asked for figures: one end sees it all.
	clientArgs := slices.Concat(o.Args, []string{"-metrics", "unix:" + place.metricsSocket()})
	if o.NoTor {
		return startDirect(ctx, directOptions{
			transport: o.Transport,
			client:    slices.Concat([]string{o.Executable}, clientArgs),
			server:    slices.Concat([]string{o.Executable}, o.Args),
			folder:    place,
			orPort:    web.Addr(),
			show:      show,
		})
	}
	executable, err := place.plainPath(o.Executable)
	if err != nil {
		return nil, err
	}
	return startNetwork(ctx, networkOptions{
		transport: o.Transport,
		client:    slices.Concat([]string{executable}, clientArgs),
		server:    slices.Concat([]string{executable}, o.Args),
		dir:       place.networkDir(),
		show:      show,
	})
}

// fetch fetches the file and shows the table.
func fetch(ctx context.Context, o Options, place *folder, web *tornet.Web, show *display.Display, through stack) error {
	if err := web.Probe(ctx, through.http()); err != nil {
		return err
	}
	report := show.Stage(stageDownload)
	report(0)
	begin := time.Now()
	err := web.Download(ctx, through.http(), func(sofar int64) {
		// The last percent is the check of the SHA-256.
		report(int(min(sofar*100/web.Size(), 99)))
	})
	if err != nil {
		return fmt.Errorf("fetching the file: %w", err)
	}
	took := time.Since(begin)
	report(100)
	carried, err := checkCarried(ctx, o, place, web, 1)
	if err != nil {
		return err
	}
	return result{
		transport: o.Transport,
		module:    o.ModuleSHA256,
		size:      web.Size(),
		sum:       web.SHA256(),
		carried:   carried,
		took:      took,
	}.write(o.Out)
}

// checkCarried returns what went through the module, which is so many times the file, or
// more.
func checkCarried(ctx context.Context, o Options, place *folder, web *tornet.Web, times int64) (carried, error) {
	c, err := readCarried(ctx, place.metricsSocket(), o.Transport)
	if err != nil {
		return c, fmt.Errorf("cannot tell how many bytes went through the module: %w", err)
	}
	if all := times * web.Size(); c.fromNetwork < uint64(all) {
		return c, fmt.Errorf("the module has received %d bytes only: not all of the %d bytes came through it", c.fromNetwork, all)
	}
	return c, nil
}

// keep prints how the stack can be used and waits until ctx ends, which is the
// orderly end, or a part of the stack does.
func keep(ctx context.Context, out io.Writer, running stack) error {
	if _, err := fmt.Fprintf(out, "\n%s\nIt runs until you press Ctrl-C.\n", running.usage()); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-running.ended():
		return running.explain(errors.New("a part of it ended by itself"))
	}
}
