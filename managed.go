package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/client"
	"waterproxy/internal/catalog"
	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/reload"
	"waterproxy/server"
	"waterproxy/transport"
)

// managed is the program as tor started it. What goes wrong is told to tor on
// standard output, in the words of the specification.
type managed struct {
	catalog catalog.Catalog
	metrics string
	logging ptlog.Flags
	watch   bool
	log     *slog.Logger
	meter   *meter.Meter
	loaded  *reload.Set
	running []listener
}

// listener is what a transport's client and server side have in common.
type listener interface {
	Close() error
	Wait()
}

// runManaged does what tor asks for in the environment until tor asks for the
// end, and returns the exit status.
func runManaged(args []string) int {
	m := &managed{meter: meter.New()}
	if err := m.parse(args); err != nil {
		ptlog.EnvError("the plugin's command line: %v", err)
		return exitUsage
	}
	// pt-spec 3.3.3: a proxy may say who it is before it is done.
	pt.ReportVersion("waterproxy", version)
	if m.metrics != "" {
		stop, err := m.meter.Serve(m.metrics)
		if err != nil {
			ptlog.EnvError("%v", err)
			return exitFailure
		}
		defer stop()
	}
	ctx, cancel := untilEnd()
	defer cancel()
	hangUp := notifyHangUp()
	start := m.startServer
	if _, ok := os.LookupEnv("TOR_PT_CLIENT_TRANSPORTS"); ok {
		start = m.startClient
	}
	if err := start(ctx); err != nil {
		return exitFailure // the line that says why has been printed
	}
	keepLoaded(ctx, m.loaded, m.watch, hangUp)
	<-ctx.Done()
	for _, l := range m.running {
		if err := l.Close(); err != nil {
			m.log.Warn("cannot stop listening", "error", err)
		}
	}
	return 0
}

// parse reads the flags that an operator gave in torrc.
func (m *managed) parse(args []string) error {
	fs := flag.NewFlagSet("waterproxy", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	m.catalog.Flags(fs)
	fs.StringVar(&m.metrics, "metrics", "", "serve Prometheus metrics at unix:PATH or a loopback HOST:PORT")
	fs.BoolVar(&m.watch, "watch", false, "look for changes of modules and their settings, and load them")
	m.logging.Register(fs, "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is no flag; tor's variables are set, so this is not a place for subcommands", fs.Arg(0))
	}
	if err := m.logging.Check(); err != nil {
		return err
	}
	return m.catalog.Check()
}

// useState makes the state directory, if tor named one, and opens the log, which may
// be in it.
func (m *managed) useState() error {
	if os.Getenv("TOR_PT_STATE_LOCATION") != "" {
		dir, err := pt.MakeStateDir()
		if err != nil {
			ptlog.EnvError("cannot make the state directory: %v", err)
			return err
		}
		m.catalog.StateDir = dir
	}
	var err error
	if m.log, err = m.logging.ToTorAnd(m.catalog.StateDir); err != nil {
		ptlog.EnvError("%v", err)
		return err
	}
	m.loaded = reload.New(&m.catalog, m.log)
	return nil
}

// startClient starts a SOCKS5 proxy for each transport that tor asks for and we
// have (pt-spec 3.3.2, 3.5).
func (m *managed) startClient(ctx context.Context) error {
	// goptlib does not understand all that tor writes into this variable, and then
	// fails without a line.
	proxy := os.Getenv("TOR_PT_PROXY")
	if err := os.Unsetenv("TOR_PT_PROXY"); err != nil {
		return err
	}
	info, err := pt.ClientSetup(nil)
	if err != nil {
		return err
	}
	if proxy != "" {
		return pt.ProxyError("waterproxy cannot connect through a proxy yet; remove the proxy from torrc or use another transport")
	}
	if err := m.useState(); err != nil {
		return err
	}
	for name, result := range startAll(info.MethodNames, func(name string) (*client.Proxy, error) { return m.startProxy(ctx, name) }) {
		p, err := result()
		switch {
		case errors.Is(err, catalog.ErrUnknown): // to be ignored, says pt-spec 3.2.2
		case err != nil:
			_ = pt.CmethodError(name, oneLine(err)) // its error is the line it printed
		default:
			m.running = append(m.running, p)
			pt.Cmethod(name, "socks5", p.Addr())
		}
	}
	pt.CmethodsDone()
	return nil
}

// startAll starts everything at once, so that nothing waits for a module that is
// slow to compile or to start, and yields the results in the order of items.
func startAll[I, T any](items []I, start func(I) (T, error)) iter.Seq2[I, func() (T, error)] {
	results := make([]func() (T, error), len(items))
	for i, item := range items {
		results[i] = sync.OnceValues(func() (T, error) { return start(item) })
		go results[i]()
	}
	return func(yield func(I, func() (T, error)) bool) {
		for i, item := range items {
			if !yield(item, results[i]) {
				return
			}
		}
	}
}

func (m *managed) startProxy(ctx context.Context, name string) (p *client.Proxy, err error) {
	err = m.loaded.Start(name, nil, func(cfg transport.Config) (reload.Target, error) {
		p, err = client.Listen(ctx, name, cfg, m.log, m.meter)
		return p, err
	})
	return p, err
}

// startServer starts a listener for each transport that tor asks for and we have
// (pt-spec 3.3.3).
func (m *managed) startServer(ctx context.Context) error {
	if err := checkASCII(); err != nil {
		return err
	}
	info, err := pt.ServerSetup(nil)
	if err != nil {
		return err
	}
	if err := m.useState(); err != nil {
		return err
	}
	for bind, result := range startAll(info.Bindaddrs, func(b pt.Bindaddr) (*server.Listener, error) { return m.startListener(ctx, b, &info) }) {
		l, err := result()
		switch {
		case errors.Is(err, catalog.ErrUnknown):
		case err != nil:
			_ = pt.SmethodError(bind.MethodName, oneLine(err))
		default:
			m.running = append(m.running, l)
			announce(bind.MethodName, l)
		}
	}
	pt.SmethodsDone()
	return nil
}

// announce prints a listener's line, with ARGS if the module has published any.
func announce(name string, l *server.Listener) {
	if args := l.Args(); args != nil {
		pt.SmethodArgs(name, l.Addr(), args)
		return
	}
	pt.Smethod(name, l.Addr())
}

func (m *managed) startListener(ctx context.Context, bind pt.Bindaddr, info *pt.ServerInfo) (l *server.Listener, err error) {
	options := func(cfg *transport.Config) { cfg.Args = transport.Args(bind.Options) }
	err = m.loaded.Start(bind.MethodName, options, func(cfg transport.Config) (reload.Target, error) {
		l, err = server.Listen(ctx, bind.MethodName, cfg, bind.Addr, info, m.log, m.meter)
		return l, err
	})
	return l, err
}

// untilEnd returns a context that is done when tor wants the end: by a signal,
// or, if it said so, by closing standard input, which also happens when tor dies
// (pt-spec 3.4). It may come while transports are still being started.
func untilEnd() (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if os.Getenv("TOR_PT_EXIT_ON_STDIN_CLOSE") == "1" {
		go func() {
			// An error means as much as the end.
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	return ctx, cancel
}

// checkASCII makes up for goptlib, which panics where it would quote one of
// these variables in an error line if they are not ASCII.
func checkASCII() error {
	for _, key := range []string{"TOR_PT_SERVER_BINDADDR", "TOR_PT_ORPORT", "TOR_PT_EXTENDED_SERVER_PORT"} {
		if value := os.Getenv(key); value != ptlog.Printable(value) {
			ptlog.EnvError("%s: %q has characters that no address has", key, value)
			return fmt.Errorf("%s is malformed", key)
		}
	}
	return nil
}

// oneLine turns an error into text for a line to tor. A module's stack trace
// stays out.
func oneLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return ptlog.Printable(first)
}
