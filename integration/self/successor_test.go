package self

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"waterproxy/internal/program"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// shortDir returns a directory whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A process that ends leaves the socket of its successor alone, and the last one leaves
// nothing.
func TestSuccessorsSocket(t *testing.T) {
	dir := shortDir(t)
	socket := filepath.Join(dir, "metrics")
	flags := append(module("t", "plain_v1"), "-metrics", "unix:"+socket)
	older := launch(t, clientVariables("t"), flags...)
	older.ready()
	newer := launch(t, clientVariables("t"), append(flags, modulesFlags("t2", "plain_v1")...)...)
	newer.ready()
	for _, p := range []*process{older, newer} {
		if err := p.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		p.Wait(pttest.Patience)
		p.CheckStatus(0)
		if p == older {
			figures(t, "unix", socket)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("what is left: %v, %v", left, err)
	}
}

// A successor carries connections while the process before it still has the address of
// the metrics, and serves them after it.
func TestMetricsInUse(t *testing.T) {
	other := pttest.Listen(t)
	address := other.Addr().String()
	managed := launch(t, clientVariables("t"), append(module("t", "plain_v1"), "-metrics", address)...)
	managed.Line(`^LOG SEVERITY=warning MESSAGE=".*metrics cannot be served yet.*address already in use`)
	echoThrough(t, managed.Address("t"))
	other.Close()
	managed.Line(`^LOG SEVERITY=info MESSAGE=".*metrics are served now`)
	figures(t, "tcp", address)

	// The managed proxy is now the one before.
	client := serve(t, append(append([]string{"client", "-state", stateDir, "-socks", "127.0.0.1:0", "-metrics", address},
		module("t", "plain_v1")...), "t "+pttest.DeadAddress(t))...)
	client.ErrorLine("metrics cannot be served yet")
	client.Line(`^SOCKS5 proxy at`)
	managed.CloseStdin()
	client.ErrorLine("metrics are served now")
	figures(t, "tcp", address)
}

// An address at which metrics can never be served costs tor's users nothing else, and
// is an error of a command line.
func TestMetricsMalformed(t *testing.T) {
	for _, address := range []string{"x", ":0", "0.0.0.0:0", "localhost:0", "192.0.2.7:9090", "unix:" + strings.Repeat("x", 200)} {
		p := launch(t, clientVariables("t"), append(module("t", "plain_v1"), "-metrics", address)...)
		p.Address("t")
		p.Line(`^LOG SEVERITY=error MESSAGE=".*going on without metrics.*-metrics:`)
		s := run(t, nil, append([]string{"client", "-metrics", address, "-socks", "127.0.0.1:0"}, append(module("t", "plain_v1"), "t "+pttest.DeadAddress(t))...)...)
		s.CheckStatus(program.ExitUsage)
		if said := strings.Join(s.Stderr.All(), "\n"); !strings.HasPrefix(said, "waterproxy: -metrics: ") || len(s.Stdout.All()) > 0 {
			t.Errorf("%s: %s", address, said)
		}
	}
}

// A name that stands for a loopback address is not answered.
func TestMetricsRebinding(t *testing.T) {
	address := pttest.FreeAddress(t)
	launch(t, clientVariables("t"), append(module("t", "plain_v1"), "-metrics", address)...).ready()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{"localhost:" + port: 200, address: 200, "rebound.example:" + port: 403} {
		req, err := http.NewRequest("GET", "http://"+address+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Host %s: %s, want %d", host, resp.Status, want)
		}
	}
}

// The crash of a process that its successor has outlived is reported at the next start.
func TestCrashWhileDraining(t *testing.T) {
	env := clientVariables("t").With(ptproc.Variables{"TOR_PT_STATE_LOCATION": t.TempDir()})
	older := start(t, env, module("t", "plain_v1")...)
	older.Address("t")
	newer := launch(t, env, module("t", "plain_v1")...)
	newer.Address("t")
	if err := older.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	older.Wait(pttest.Patience)
	newer.CloseStdin()
	newer.Wait(pttest.Patience)
	newer.CheckStatus(0)
	next := launch(t, env, module("t", "plain_v1")...)
	next.Line(`^LOG SEVERITY=error MESSAGE=".*crashed before this start.*SIGQUIT`)
}

// The warning names the directory that a socket cannot be made in.
func TestMetricsDirectoryMissing(t *testing.T) {
	dir := filepath.Join(shortDir(t), "run")
	flags := append(module("t", "plain_v1"), "-metrics", "unix:"+filepath.Join(dir, "metrics"))
	p := launch(t, clientVariables("t"), flags...)
	p.Line(`^LOG SEVERITY=warning MESSAGE=".*metrics will not be served: the second wall`)
	p.Line(`^CMETHODS DONE$`)
	p = launch(t, clientVariables("t"), append(flags, "-walls=off")...)
	p.Line(`^LOG SEVERITY=warning MESSAGE=".*metrics cannot be served yet.*make a socket in ` + dir + `: no such file`)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p.Line(`^LOG SEVERITY=info MESSAGE=".*metrics are served now`)
	figures(t, "unix", filepath.Join(dir, "metrics"))
}
