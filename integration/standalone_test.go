package integration

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// The tests in this file run our client and server without tor, with curl in front
// of one and a web server behind the other.

const standalonePage = "what is behind the bridge\n"

func startPage(t *testing.T) (address string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(standalonePage)) // curl tells what is missing
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// startCommand starts a subcommand of ours, which ends with the test.
func startCommand(t *testing.T, args ...string) *pttest.Process {
	t.Helper()
	p := pttest.New(t, nil, append([]string{waterproxy(t)}, args...)...)
	p.Begin()
	return p
}

// startStandaloneServer returns the line that the server prints.
func startStandaloneServer(t *testing.T, state, transport, forward string, more ...string) string {
	t.Helper()
	args := append([]string{"server", "-state", state, "-transport", transport, "-listen", "127.0.0.1:0", "-forward", forward}, more...)
	return startCommand(t, args...).Line(`^Bridge .*`)[0]
}

// startStandaloneClient returns the address of a SOCKS5 proxy.
func startStandaloneClient(t *testing.T, state, line string) string {
	t.Helper()
	return startCommand(t, "client", "-state", state, "-socks", "127.0.0.1:0", line).Line(`^SOCKS5 proxy at (\S+)`)[1]
}

// checkCurl has curl fetch the page.
func checkCurl(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command(program(t, "curl"), append([]string{"-sS", "--max-time", "180"}, args...)...).CombinedOutput()
	if err != nil || string(out) != standalonePage {
		t.Errorf("curl %q: %q, %v", args, out, err)
	}
}

func TestStandaloneCurl(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"obfs4", "shadowsocks"} {
		t.Run(transport, func(t *testing.T) {
			state := warmState(t, transport)
			line := startStandaloneServer(t, state, transport, startPage(t))
			socks := startStandaloneClient(t, state, line)
			checkCurl(t, "--socks5-hostname", socks, "http://page.example/")
			checkCurl(t, "--socks5", socks, "http://192.0.2.1/")
			// Applications that keep their connections apart by names and passwords.
			checkCurl(t, "--socks5-hostname", socks, "--proxy-user", "user:password", "http://page.example/")
			forward := startCommand(t, "client", "-state", state, "-forward", "127.0.0.1:0", line).Line(`^TCP forward at (\S+)`)[1]
			checkCurl(t, "http://"+forward+"/")
		})
	}
}

// Our client gets through their server, whose bridge line tor would write, and their
// client through ours.
func TestStandaloneObfs4proxy(t *testing.T) {
	t.Parallel()
	lab := newObfs4Lab(t)
	page := startPage(t)
	t.Run("their server", func(t *testing.T) {
		variables := ptproc.Server("", page, "obfs4")
		server := lab.launch(t, theirs, t.TempDir(), variables)
		args := server.Line(`^SMETHOD obfs4 \S+ ARGS:(\S+)`)[1]
		line := "Bridge obfs4 " + server.Address("obfs4") + " 0123456789ABCDEF0123456789ABCDEF01234567 " + strings.ReplaceAll(args, ",", " ")
		checkCurl(t, "--socks5-hostname", startStandaloneClient(t, lab.state(t), line), "http://page.example/")
	})
	t.Run("their client", func(t *testing.T) {
		line := strings.Fields(startStandaloneServer(t, lab.state(t), "obfs4", page))
		client := lab.launch(t, theirs, t.TempDir(), ptproc.Client("", "obfs4"))
		conn, err := obfs4Client{client}.connect(line[2], strings.Join(line[3:], ";"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		request, err := http.NewRequest(http.MethodGet, "http://page.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Close = true
		if err := request.Write(conn); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(got), standalonePage) {
			t.Errorf("the answer is %q, %v", got, err)
		}
	})
}

// ss-server connects to where the bridge line says; our client does not need ours.
func TestStandaloneShadowsocksLibev(t *testing.T) {
	t.Parallel()
	server := startSSServer(t, "chacha20-ietf-poly1305")
	line := "shadowsocks " + server + " cipher=chacha20-ietf-poly1305 password=" + shadowsocksPassword + " target=" + startPage(t)
	checkCurl(t, "--socks5-hostname", startStandaloneClient(t, t.TempDir(), line), "http://page.example/")
}
