// Package managed is the managed proxy: what tor starts as ClientTransportPlugin or
// ServerTransportPlugin, does what tor asks for in the environment, and answers on
// standard output (pluggable transport specification version 1, "pt-spec").
package managed

import (
	"context"
	"flag"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"slices"
	"strings"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/outbound"
	"waterproxy/internal/program"
	"waterproxy/internal/ptlog"
	"waterproxy/internal/service"
	"waterproxy/internal/transports"
	"waterproxy/internal/walls"
	"waterproxy/transport"
)

// plugin is the process as tor started it.
type plugin struct {
	*service.Service
	outbound outbound.Dialer
}

// StartedByTor reports whether any of the variables is set by which tor configures a
// managed proxy (pt-spec 3.2).
func StartedByTor() bool {
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "TOR_PT_") {
			return true
		}
	}
	return false
}

// Main serves what tor asks for until tor asks for the end, and returns the exit status.
// args are the flags that the operator gave in torrc. Errors are reported to tor.
func Main(args []string) int {
	ptlog.QueueOutput()
	o, err := parse(args)
	if err != nil {
		ptlog.EnvError("the plugin's command line: %v", err)
		return program.ExitUsage
	}
	// pt-spec 3.3.3: a proxy may say who it is before it is done.
	pt.ReportVersion("waterproxy", program.Version)
	p := &plugin{Service: service.Open(o)}
	p.watchTor()
	start := p.startServer
	if _, ok := os.LookupEnv("TOR_PT_CLIENT_TRANSPORTS"); ok {
		start = p.startClient
	}
	if err := p.Run(start); err != nil {
		return program.ExitFailure // the line with the reason has been printed
	}
	return 0
}

// parse reads the flags, and where tor keeps state.
func parse(args []string) (*service.Options, error) {
	o := &service.Options{ToTor: true}
	fs := flag.NewFlagSet("waterproxy", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.Register(fs)
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag; tor's variables are set, so this is not a place for subcommands", fs.Arg(0))
	}
	o.Catalog.StateDir = os.Getenv("TOR_PT_STATE_LOCATION")
	o.Catalog.StateFlag = "DataDirectory in torrc (TOR_PT_STATE_LOCATION)"
	return o, o.Check()
}

// startConcurrently starts everything at once, so that nothing waits for a module that
// is slow to compile or to start, and yields the results in the order of items. From the
// end of ctx on nothing is waited for.
func startConcurrently[I any, R service.Runner](ctx context.Context, items []I, start func(I) (R, error)) iter.Seq2[I, func() (R, error)] {
	results := make([]func() (R, error), len(items))
	for i, item := range items {
		results[i] = service.Start(ctx, func() (R, error) { return start(item) })
	}
	return func(yield func(I, func() (R, error)) bool) {
		for i, item := range items {
			if !yield(item, results[i]) {
				return
			}
		}
	}
}

// offered returns those of the names that tor asks for that stand for something. The
// repository may have to be asked for them; if it cannot be, that is told to tor by fail.
// Other names are ignored (pt-spec 3.2.2, 3.2.3).
func (p *plugin) offered(ctx context.Context, asked []string, fail func(name, why string) error) []string {
	err := p.FirstLook(ctx, asked)
	return slices.DeleteFunc(slices.Clone(asked), func(name string) bool {
		if p.Catalog.Has(name) {
			return false
		}
		if why := p.WhyNot(name, err); why != nil {
			_ = fail(name, oneLine(why)) // its error is the line it printed
		}
		return true
	})
}

// bound is a transport with the listener that it is to have, or why it has none.
type bound struct {
	name string
	ln   net.Listener
	err  error
}

// needs returns what the transports take from the network.
func (p *plugin) needs(names []string, connect ...walls.PortRange) service.Needs {
	return service.Needs{
		Transports: names,
		Connect:    connect,
		Source:     p.outbound.Source4.IsValid() || p.outbound.Source6.IsValid(),
		ByProxy:    p.outbound.Proxy != nil,
	}
}

// options returns what a transport is started with; args are a server's.
func (p *plugin) options(name string, args transport.Args) transports.Options {
	return transports.Options{Name: name, Args: args, Lazy: true, Dial: p.outbound.DialContext, DialNames: p.outbound.Proxy != nil}
}

// oneLine turns an error into text for a line to tor. A module's stack trace
// stays out.
func oneLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return ptlog.Printable(first)
}
