package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/client"
	"waterproxy/internal/meter"
	"waterproxy/internal/outbound"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/reload"
	"waterproxy/server"
)

// managed is the program as tor started it. What goes wrong is told to tor on
// standard output, in the words of the specification.
type managed struct {
	service
	outbound outbound.Dialer
}

// runManaged does what tor asks for in the environment until tor asks for the
// end, and returns the exit status.
func runManaged(args []string) int {
	ptlog.QueueOutput()
	m := &managed{service: service{meter: meter.New()}}
	if err := m.parse(args); err != nil {
		ptlog.EnvError("the plugin's command line: %v", err)
		return exitUsage
	}
	// pt-spec 3.3.3: a proxy may say who it is before it is done.
	pt.ReportVersion("waterproxy", version)
	m.useState()
	if m.metrics != "" {
		stop, err := m.meter.Serve(m.metrics, m.log)
		if err != nil { // tor's users do without metrics, not without transports
			m.log.Error("going on without metrics", "error", err)
		} else {
			defer stop()
		}
	}
	end, stop := watchEnd(context.Background(), m.log)
	defer stop()
	end.watchTor()
	start := m.startServer
	if _, ok := os.LookupEnv("TOR_PT_CLIENT_TRANSPORTS"); ok {
		start = m.startClient
	}
	if err := m.run(end, start); err != nil {
		return exitFailure // the line that says why has been printed
	}
	return 0
}

// parse reads the flags that an operator gave in torrc.
func (m *managed) parse(args []string) error {
	fs := flag.NewFlagSet("waterproxy", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	m.flags(fs, "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is no flag; tor's variables are set, so this is not a place for subcommands", fs.Arg(0))
	}
	return m.check()
}

// useState makes the state directory, if tor named one, and opens the log, which may
// be in it. What is wrong with it costs the transports that need it.
func (m *managed) useState() {
	m.catalog.StateDir = os.Getenv("TOR_PT_STATE_LOCATION")
	m.catalog.StateFlag = "DataDirectory in torrc (TOR_PT_STATE_LOCATION)"
	m.catalog.MakeState()
	var err error
	if m.log, err = m.logging.ToTorAnd(m.catalog.StateDir); err != nil {
		m.log.Warn("the log goes to tor alone", "error", err)
	}
	m.catalog.Log = m.log
	m.warn(append(m.catalog.CheckFlags(), m.catalog.CheckDir()...))
	m.loaded = reload.New(&m.catalog, m.log)
	dir := m.catalog.CacheDir()
	if dir == "" {
		return
	}
	if err := reportCrash(dir, m.log); err != nil {
		m.log.Warn("a crash would not be reported", "error", err)
	}
}

// useSources reads the addresses that connections are to come from.
func (m *managed) useSources() (err error) {
	const v4, v6 = "TOR_PT_OUTBOUND_BIND_ADDRESS_V4", "TOR_PT_OUTBOUND_BIND_ADDRESS_V6"
	if m.outbound.Source4, err = outbound.ParseSource4(os.Getenv(v4)); err != nil {
		ptlog.EnvError("%s: %v", v4, err)
		return err
	}
	if m.outbound.Source6, err = outbound.ParseSource6(os.Getenv(v6)); err != nil {
		ptlog.EnvError("%s: %v", v6, err)
	}
	return err
}

// useProxy takes note of the upstream proxy, if there is one (pt-spec 3.3.2).
func (m *managed) useProxy(text string) (err error) {
	if text == "" {
		return nil
	}
	if m.outbound.Proxy, err = outbound.ParseProxy(text); err != nil {
		return pt.ProxyError("TOR_PT_PROXY: " + err.Error())
	}
	pt.ProxyDone()
	return nil
}

// startClient starts a SOCKS5 proxy for each transport that tor asks for and we
// have (pt-spec 3.3.2, 3.5). Other names are to be ignored (3.2.2).
func (m *managed) startClient(ctx context.Context) error {
	// goptlib does not understand all that tor writes into this variable, and then
	// fails without a line.
	proxy := os.Getenv("TOR_PT_PROXY")
	if err := os.Unsetenv("TOR_PT_PROXY"); err != nil {
		ptlog.EnvError("TOR_PT_PROXY: %v", err)
		return err
	}
	info, err := pt.ClientSetup(nil)
	if err != nil {
		return err
	}
	if err := m.useSources(); err != nil {
		return err
	}
	if err := m.useProxy(proxy); err != nil {
		return err
	}
	names := slices.DeleteFunc(info.MethodNames, func(name string) bool { return !m.catalog.Has(name) })
	for name, result := range startAll(names, func(name string) (*client.Proxy, error) { return m.startProxy(ctx, name) }) {
		p, err := result()
		if err != nil {
			_ = pt.CmethodError(name, oneLine(err)) // its error is the line it printed
			continue
		}
		m.running = append(m.running, p)
		pt.Cmethod(name, "socks5", p.Addr())
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

// startServer starts a listener for each transport that tor asks for and we have
// (pt-spec 3.3.3). Other names are to be ignored (3.2.3).
func (m *managed) startServer(ctx context.Context) error {
	if err := checkASCII(); err != nil {
		return err
	}
	if err := addBindAddrs(); err != nil {
		ptlog.EnvError("TOR_PT_SERVER_BINDADDR: %v", err)
		return err
	}
	info, err := pt.ServerSetup(nil)
	if err != nil {
		return err
	}
	if err := m.useSources(); err != nil {
		return err
	}
	if or := info.ExtendedOrAddr; or != nil && !or.IP.IsLoopback() {
		// ext-orport-spec 4
		m.log.Warn("the Extended ORPort is on another machine: whoever is on the way sees the clients' addresses")
	}
	binds := slices.DeleteFunc(info.Bindaddrs, func(b pt.Bindaddr) bool { return !m.catalog.Has(b.MethodName) })
	for bind, result := range startAll(binds, func(b pt.Bindaddr) (*server.Listener, error) { return m.startListener(ctx, b, &info) }) {
		l, err := result()
		if err != nil {
			_ = pt.SmethodError(bind.MethodName, oneLine(err))
			continue
		}
		m.running = append(m.running, l)
		announce(bind.MethodName, l)
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

// orPort says where tor is, and how to get there.
func (m *managed) orPort(info *pt.ServerInfo) server.ORPort {
	or := server.ORPort{Addr: info.OrAddr, Extended: info.ExtendedOrAddr, CookieFile: info.AuthCookiePath}
	addr := cmp.Or(or.Extended, or.Addr)
	or.LocalAddr = m.outbound.LocalAddr("tcp", addr.AddrPort().Addr())
	return or
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

// addBindAddrs gives the transports without an address in TOR_PT_SERVER_BINDADDR, which
// goptlib wants all to have, what tor gives them: any address, and a free port.
func addBindAddrs() error {
	const key = "TOR_PT_SERVER_BINDADDR"
	given := os.Getenv(key)
	binds := strings.FieldsFunc(given, func(r rune) bool { return r == ',' })
	has := func(name string) bool {
		return slices.ContainsFunc(binds, func(b string) bool { return strings.HasPrefix(b, name+"-") })
	}
	for name := range strings.SplitSeq(os.Getenv("TOR_PT_SERVER_TRANSPORTS"), ",") {
		if name != "" && !has(name) {
			binds = append(binds, name+"-0.0.0.0:0")
		}
	}
	return os.Setenv(key, strings.Join(binds, ","))
}

// oneLine turns an error into text for a line to tor. A module's stack trace
// stays out.
func oneLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return ptlog.Printable(first)
}
