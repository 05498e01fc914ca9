package managed

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"

	"waterproxy/internal/outbound"
	"waterproxy/internal/ptlog"
)

// The variables of the addresses from which connections are to come (pt-spec 3.2.1).
const (
	sourceV4 = "TOR_PT_OUTBOUND_BIND_ADDRESS_V4"
	sourceV6 = "TOR_PT_OUTBOUND_BIND_ADDRESS_V6"
)

// useSources reads the addresses from which connections are to come.
func (p *plugin) useSources() (err error) {
	if p.outbound.Source4, err = outbound.ParseSource4(os.Getenv(sourceV4)); err != nil {
		ptlog.EnvError("%s: %v", sourceV4, err)
		return err
	}
	if p.outbound.Source6, err = outbound.ParseSource6(os.Getenv(sourceV6)); err != nil {
		ptlog.EnvError("%s: %v", sourceV6, err)
	}
	return err
}

// useProxy reads the upstream proxy, if there is one (pt-spec 3.3.2).
func (p *plugin) useProxy(text string) (err error) {
	if text == "" {
		return nil
	}
	if p.outbound.Proxy, err = outbound.ParseProxy(text); err != nil {
		return pt.ProxyError("TOR_PT_PROXY: " + err.Error())
	}
	pt.ProxyDone()
	return nil
}

// serverSetup reads what tor has set for a server (pt-spec 3.2.3).
func serverSetup() (info pt.ServerInfo, err error) {
	if err := checkASCII(); err != nil {
		return info, err
	}
	if err := addBindAddrs(); err != nil {
		ptlog.EnvError("TOR_PT_SERVER_BINDADDR: %v", err)
		return info, err
	}
	return setup(pt.ServerSetup)
}

// setup calls goptlib, which panics where it would quote in an error line what is not
// ASCII: that is the error then.
func setup[T any](read func([]string) (T, error)) (info T, err error) {
	defer func() {
		if r := recover(); r != nil {
			ptlog.EnvError("a variable of tor's is malformed: %v", r)
			err = errors.New("the environment is malformed")
		}
	}()
	return read(nil)
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
// goptlib requires for all, what tor gives them: any address, and a free port.
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
