package integration

import (
	"archive/tar"
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// A transport that only a repository has is got, used and replaced, and connections go on.
func TestRoad(t *testing.T) {
	t.Parallel()
	wasm, err := os.ReadFile(builtFile(t, filepath.Join("..", "modules", "built", "plain.wasm")))
	if err != nil {
		t.Fatal(err)
	}
	r := newRoad(t)
	r.add("1.0", withVersion(wasm, 1))
	r.sign()
	address := net.JoinHostPort(freeAddress(t))
	authority := startNginx(t, r.dir, address, "127.0.0.1")
	flags := []string{"-from", "https://" + address, "-root", r.root, "-every", "10s"}
	trust := ptproc.Variables{"SSL_CERT_FILE": authority}

	orPort := pttest.Listen(t)
	server := startManaged(t, ptproc.Server(t.TempDir(), orPort.Addr().String(), ferry).With(trust), flags...)
	client := startManaged(t, ptproc.Client(t.TempDir(), ferry).With(trust), flags...)
	socks, bridge := client.Address(ferry), server.Address(ferry)
	var old []line
	for range 100 {
		old = append(old, newLine(t, socks, bridge, orPort))
	}

	sum := r.add("2.0", withVersion(wasm, 2))
	r.sign()
	signed := time.Now()
	uses(server, sum, 1)
	uses(client, sum, 1)
	newLine(t, socks, bridge, orPort)
	t.Logf("the first connection through the new version was there %.1f s after its last signature", time.Since(signed).Seconds())
	for _, l := range old {
		pttest.Echo(t, l.near, l.far)
	}
}

// traffic is what went over one connection to a web server.
type traffic struct {
	files []string // that were asked for
	bytes int64    // in both directions
}

// countingConn counts what goes over a connection.
type countingConn struct {
	net.Conn
	bytes atomic.Int64
	files []string
	ended chan<- traffic
	over  atomic.Bool
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *countingConn) Close() error {
	if !c.over.Swap(true) {
		c.ended <- traffic{c.files, c.bytes.Load()}
	}
	return c.Conn.Close()
}

type countingListener struct {
	net.Listener
	ended chan<- traffic
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countingConn{Conn: c, ended: l.ended}, nil
}

type connKey struct{}

// startCounting serves a folder over HTTP, and sends what went over each connection once
// it has ended.
func startCounting(t *testing.T, dir string) (url string, ended <-chan traffic) {
	t.Helper()
	all := make(chan traffic, 1000)
	l := pttest.Listen(t)
	files := http.FileServer(http.Dir(dir))
	server := &http.Server{
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			c := q.Context().Value(connKey{}).(*countingConn)
			c.files = append(c.files, q.URL.Path)
			files.ServeHTTP(w, q)
		}),
	}
	done := make(chan struct{})
	go func() {
		_ = server.Serve(&countingListener{l, all}) // it is closed
		close(done)
	}()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return "http://" + l.Addr().String(), all
}

func nextTraffic(t *testing.T, ended <-chan traffic) traffic {
	t.Helper()
	select {
	case got := <-ended:
		return got
	case <-time.After(pttest.Patience):
		t.Fatal("nobody asks")
		return traffic{}
	}
}

// silentBytes is what an update of nothing takes at most, in both directions.
const silentBytes = 2000

func checkSilent(t *testing.T, got traffic) {
	t.Helper()
	if !slices.Equal(got.files, []string{"/timestamp.json"}) || got.bytes > silentBytes {
		t.Errorf("an update of nothing asks for %q and takes %d bytes, want timestamp.json alone and no more than %d", got.files, got.bytes, silentBytes)
	}
}

// An update of nothing is one request and 2 kB.
func TestRoadSilent(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	r.add("1.0", plainVersion(t, 1))
	r.sign()
	url, ended := startCounting(t, r.dir)
	// full waits for a look that fetches a module, all over one connection.
	full := func() {
		t.Helper()
		for {
			got := nextTraffic(t, ended)
			if slices.ContainsFunc(got.files, func(file string) bool { return strings.HasPrefix(file, "/targets/") }) {
				return
			}
			checkSilent(t, got)
		}
	}

	t.Run("subcommand", func(t *testing.T) {
		args := []string{"modules", "update", "-state", t.TempDir(), "-from", url, "-root", r.root}
		output(t, 0, args...)
		full()
		output(t, 0, args...)
		got := nextTraffic(t, ended)
		checkSilent(t, got)
		t.Logf("%d bytes", got.bytes)
	})
	t.Run("process", func(t *testing.T) {
		client := startManaged(t, ptproc.Client(t.TempDir(), ferry), "-from", url, "-root", r.root, "-every", "1s")
		client.Address(ferry)
		full()
		for range 3 {
			checkSilent(t, nextTraffic(t, ended))
		}
		r.add("2.0", plainVersion(t, 2))
		r.sign()
		full()
		checkSilent(t, nextTraffic(t, ended))
	})
}

// Of two mirrors one is dead; SIGHUP brings news at once; what does not work is refused;
// there is a way back.
func TestRoadTurns(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	first := r.add("1.0", plainVersion(t, 1))
	r.sign()
	url, _ := startCounting(t, r.dir)
	state := t.TempDir()
	client := startManaged(t, ptproc.Client(state, ferry), "-from", "http://"+pttest.DeadAddress(t), "-from", url, "-root", r.root, "-every", "0")
	socks, behind := client.Address(ferry), pttest.Listen(t)
	var lines []line
	// check checks that all connections there have been go on, and adds one.
	check := func(used string) {
		t.Helper()
		lines = append(lines, newLine(t, socks, behind.Addr().String(), behind))
		for _, l := range lines {
			pttest.Echo(t, l.near, l.far)
		}
		if list := output(t, 0, "modules", "-state", state); !regexp.MustCompile(`(?m)^` + ferry + ` .* ` + used + ` .* in use(, pinned)?$`).MatchString(list) {
			t.Errorf("%s is not in use:\n%s", used, list)
		}
	}
	check(first)

	second := r.add("2.0", plainVersion(t, 2))
	r.sign()
	client.Send(syscall.SIGHUP)
	uses(client, second, 1)
	check(second)

	refused := 0
	for version, bad := range map[string]string{"2.1": "evil_init_eperm_v1", "2.2": "probe_test_bad_v1"} {
		wasm := testmodules.Load(t, bad)
		file := r.file(bad)
		writeFile(t, file, wasm)
		if bad == "probe_test_bad_v1" {
			if said := output(t, 1, "publish", "add", r.dir, ferry, version, file); !strings.Contains(said, "self_test") {
				t.Errorf("publish add says %q", said)
			}
		}
		r.addBlindly(version, wasm)
		r.sign()
		client.Send(syscall.SIGHUP)
		refused++
		said(client, "a new version cannot be used; the old one stays", refused)
		check(second)
		if list := output(t, 0, "modules", "-state", state); !regexp.MustCompile(`(?m)^` + ferry + ` +` + version + ` .* refused: `).MatchString(list) {
			t.Errorf("%s is not refused:\n%s", version, list)
		}
	}

	third := r.add("3.0", plainVersion(t, 3))
	r.sign()
	client.Send(syscall.SIGHUP)
	uses(client, third, 1)
	check(third)

	output(t, 0, "modules", "rollback", "-state", state, ferry)
	client.Send(syscall.SIGHUP)
	uses(client, second, 2)
	check(second)
	output(t, 0, "modules", "unpin", "-state", state, ferry)
	client.Send(syscall.SIGHUP)
	uses(client, third, 2)
	check(third)
}

// What somebody hands over in a file needs no network.
func TestRoadImport(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	r.add("1.0", plainVersion(t, 1))
	r.sign()
	state := t.TempDir()
	handed := filepath.Join(t.TempDir(), "modules.tar")
	pack(t, handed, r.dir)
	output(t, 0, "modules", "import", "-state", state, "-root", r.root, handed)
	client := startManaged(t, ptproc.Client(state, ferry), "-from", "http://"+pttest.DeadAddress(t), "-root", r.root, "-every", "0")
	socks, behind := client.Address(ferry), pttest.Listen(t)
	client.Line("no news of the repository can be had.*connection refused")
	old := newLine(t, socks, behind.Addr().String(), behind)

	// The next file is for the same repository, so its keys are known.
	sum := r.add("2.0", plainVersion(t, 2))
	r.sign()
	pack(t, handed, r.dir)
	output(t, 0, "modules", "import", "-state", state, handed)
	client.Send(syscall.SIGHUP)
	uses(client, sum, 1)
	newLine(t, socks, behind.Addr().String(), behind)
	pttest.Echo(t, old.near, old.far)

	// The file itself can be looked at, and another one put in its place.
	looks := startManaged(t, ptproc.Client(t.TempDir(), ferry), "-from", "file://"+handed, "-root", r.root, "-every", "0")
	newLine(t, looks.Address(ferry), behind.Addr().String(), behind)
	sum = r.add("3.0", plainVersion(t, 3))
	r.sign()
	pack(t, handed+".new", r.dir)
	if err := os.Rename(handed+".new", handed); err != nil {
		t.Fatal(err)
	}
	looks.Send(syscall.SIGHUP)
	uses(looks, sum, 1)

	// A file that has been changed on the way brings nothing.
	text, err := os.ReadFile(handed)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, handed, bytes.ReplaceAll(text, []byte(`"version":"3.0"`), []byte(`"version":"3.1"`)))
	output(t, 1, "modules", "import", "-state", t.TempDir(), "-root", r.root, handed)
}

// pack makes a tar file of a folder.
func pack(t *testing.T, file, dir string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, b.Bytes())
}
