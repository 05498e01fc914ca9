package updater

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"waterproxy/internal/release"
	"waterproxy/internal/repository"
	"waterproxy/internal/repotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func request(t *testing.T, r *repotest.Repository, from ...string) Request {
	t.Helper()
	root, err := repository.ReadRoot(r.Root)
	if err != nil {
		t.Fatal(err)
	}
	return Request{State: t.TempDir(), Root: root, From: from}
}

// look gives the process of a look its request, and returns its result.
func look(t *testing.T, stdin io.Reader) (answer result) {
	t.Helper()
	var out, complaints bytes.Buffer
	if status := serve(stdin, &out, &complaints); status != 0 {
		t.Fatalf("status %d: %s", status, &complaints)
	}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// open is a pipe that whoever asks keeps open, with a request in it.
func open(t *testing.T, r Request) (*io.PipeReader, *io.PipeWriter) {
	t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	out, in := io.Pipe()
	go func() { _, _ = in.Write(text) }()
	t.Cleanup(func() { in.Close() })
	return out, in
}

// TestLook: a mirror that cannot be used is a note, and the next one brings what is new.
func TestLook(t *testing.T) {
	r := repotest.New(t)
	r.Publish(release.Release{Transport: "river", Version: "1"}, []byte("module"))
	asked := request(t, r, "/nowhere", r.Dir)
	stdin, _ := open(t, asked)
	answer := look(t, stdin)
	if answer.Error != "" || len(answer.News.Next) != 1 || answer.News.Next[0].Version != "1" || answer.News.Mirror != r.Dir {
		t.Errorf("%+v", answer)
	}
	if len(answer.Notes) != 1 || answer.Notes[0].Level != slog.LevelWarn || !strings.Contains(strings.Join(answer.Notes[0].Attrs, " "), "/nowhere") {
		t.Errorf("notes: %+v", answer.Notes)
	}
	index, err := repository.New(asked.State).Index()
	if err != nil || index.Best("river") == nil {
		t.Errorf("it is not here: %v", err)
	}
}

// TestLookEndsWithAsker: a look ends when whoever asked for it does, whatever its mirror
// does.
func TestLookEndsWithAsker(t *testing.T) {
	began := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	}))
	defer server.Close()
	stdin, in := open(t, request(t, repotest.New(t), server.URL))
	go func() {
		<-began
		in.Close()
	}()
	if answer := look(t, stdin); !strings.Contains(answer.Error, "context canceled") {
		t.Errorf("%+v", answer)
	}
}

// TestLookBadRequest: what cannot be meant is an error, and nothing is done.
func TestLookBadRequest(t *testing.T) {
	good := request(t, repotest.New(t), "x")
	for name, change := range map[string]func(*Request){
		"proxy": func(r *Request) { r.Proxy = "x" }, "IPv4": func(r *Request) { r.Source4 = "x" }, "IPv6": func(r *Request) { r.Source6 = "x" },
		"ftp": func(r *Request) { r.From = []string{"ftp://192.0.2.1/"} }, "no mirror": func(r *Request) { r.From = nil },
	} {
		bad := good
		change(&bad)
		stdin, _ := open(t, bad)
		if answer := look(t, stdin); !strings.Contains(answer.Error, name) {
			t.Errorf("%s: %q", name, answer.Error)
		}
		if _, err := os.Stat(bad.State + "/repository"); err == nil {
			t.Errorf("%s: something was kept", name)
		}
	}
	if status := serve(strings.NewReader("{"), io.Discard, io.Discard); status == 0 {
		t.Error("half of a request is one")
	}
}
