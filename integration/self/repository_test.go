package self

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// publisher runs `waterproxy publish` and `modules`, whose exit status has to be as it says.
type publisher struct {
	t   *testing.T
	dir string
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	p := &publisher{t, t.TempDir()}
	install(t, p.path("none"), nil)
	p.run(0, "publish", "init", "-threshold", "2", "-keys", "3", "-key-dir", p.path("keys"), "-passphrase-file", p.path("none"), p.repository())
	return p
}

func (p *publisher) path(name string) string { return filepath.Join(p.dir, name) }
func (p *publisher) repository() string      { return p.path("repository") }
func (p *publisher) root() string            { return p.path("repository/root.json") }
func (p *publisher) key(n int) string        { return p.path(fmt.Sprintf("keys/%d.key", n)) }

// run returns what was written to both outputs.
func (p *publisher) run(status int, args ...string) string {
	p.t.Helper()
	process := run(p.t, nil, args...)
	process.CheckStatus(status)
	return strings.Join(append(process.Stdout.All(), process.Stderr.All()...), "\n")
}

// publish publishes a version of river by the keys 1 and 3.
func (p *publisher) publish(version string, wasm []byte) {
	p.t.Helper()
	install(p.t, p.path("river.wasm"), wasm)
	p.run(0, "publish", "add", p.repository(), "river", version, p.path("river.wasm"), "-for", "2d")
	if said := p.run(0, "publish", "sign", p.repository(), p.key(1)); !strings.Contains(said, "1 of 2 signatures") {
		p.t.Errorf("after one signature: %s", said)
	}
	if said := p.run(0, "publish", "sign", p.repository(), p.key(3)); !strings.Contains(said, "published") {
		p.t.Errorf("after two signatures: %s", said)
	}
}

// wants checks that text has all the patterns.
func wants(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, pattern := range patterns {
		if !regexp.MustCompile(pattern).MatchString(text) {
			t.Errorf("%q lacks %q", text, pattern)
		}
	}
}

// TestPublishAndUpdate is the road by hand: a repository is made, added to and signed, a
// state directory takes it, goes back and follows again, and what is not right is refused.
func TestPublishAndUpdate(t *testing.T) {
	p := newPublisher(t)
	wasm := testmodules.Load(t, "plain_v1")
	p.publish("1.0", moduleVersion(wasm, 1))
	state := p.path("state")
	update := []string{"modules", "update", "-from", p.repository(), "-root", p.root(), "-state", state}
	wants(t, p.run(0, update...), "river 1.0 is good, as client and server", "new versions: 1")
	wants(t, p.run(0, update...), "there is nothing new")
	wants(t, p.run(0, "modules", "-state", state), `river +1\.0 +[0-9a-f]{64} +repository +[0-9a-f]{8},[0-9a-f]{8} +20\S+ +in use`, `plain +- +[0-9a-f]{64} +built-in`)
	wants(t, p.run(1, append(update, "ocean")...), "the repository has no transport ocean")
	p.publish("1.1", moduleVersion(wasm, 2))
	wants(t, p.run(0, "publish", "verify", p.repository()), "river 1.1, SHA-256 ")
	wants(t, p.run(0, "publish", "status", p.repository()), "published: version 3", "river 1.1", "1.9 days left|2.0 days left")
	p.run(0, update...)
	wants(t, p.run(0, "modules", "-state", state), `river +1\.1 .*in use`, `river +1\.0 .*kept`)
	wants(t, p.run(0, "modules", "rollback", "river", "-state", state), "river is 1.0 now")
	p.run(0, update...)
	wants(t, p.run(0, "modules", "-state", state), `river +1\.0 .*in use, pinned`, `river +1\.1 .*kept`)
	wants(t, p.run(1, "modules", "rollback", "river", "-state", state), "rolled back already")
	p.run(0, "modules", "unpin", "-state", state, "river")
	p.run(0, update...)
	wants(t, p.run(0, "modules", "-state", state), `river +1\.1 .*in use`)
	wants(t, p.run(1, "modules", "rollback", "-to", "7", "-state", state, "river"), "no such version is kept.*1.1 .current.*1.0")

	p.publish("1.2", moduleVersion(wasm, 3))
	wants(t, p.run(0, "modules", "import", p.tar(), "-state", state), "river 1.2 is good")
	p.publish("1.3", moduleVersion(wasm, 4))
	modules, err := filepath.Glob(p.path("repository/targets/*.river.wasm"))
	if err != nil || len(modules) != 4 {
		t.Fatal(modules, err)
	}
	for _, file := range modules {
		install(t, file, []byte("something else"))
	}
	wants(t, p.run(1, update...), "river 1.3: .* is not what was signed|larger than it may be|unexpected EOF")
	wants(t, p.run(1, "publish", "verify", p.repository()), "river 1.3")
	wants(t, p.run(0, "modules", "-state", state), `river +1\.2 .*in use`, `river +1\.3 .*not fetched`)
	other := newPublisher(t)
	wants(t, p.run(1, "modules", "update", "-from", other.repository(), "-root", other.root(), "-state", state), "another repository")
	wants(t, p.run(1, "modules", "update", "-from", p.repository(), "-root", other.root(), "-state", p.path("new")), "not enough signatures")
}

// tar packs the repository, in a folder of its own.
func (p *publisher) tar() string {
	p.t.Helper()
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	err := w.AddFS(os.DirFS(p.repository()).(fs.FS))
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	file := p.path("repository.tar")
	install(p.t, file, packed.Bytes())
	return file
}

// TestPublishCommandLine: what is wrong with a command line is said, and nothing done.
func TestPublishCommandLine(t *testing.T) {
	p := &publisher{t, t.TempDir()}
	for _, test := range []struct {
		status int
		want   string
		args   []string
	}{
		{2, "takes a subcommand", []string{"publish"}},
		{2, "takes other arguments", []string{"publish", "add", "x"}},
		{2, "-threshold", []string{"publish", "init", "-threshold", "x", p.path("r")}},
		{1, "between 1 and the number of keys, 0", []string{"publish", "init", p.path("r")}},
		{1, "between 1 and the number of keys, 3", []string{"publish", "init", "-threshold", "4", "-keys", "3", "-key-dir", p.path("k"), p.path("r")}},
		{1, "belong together", []string{"publish", "init", "-keys", "3", p.path("r")}},
		{1, "waterproxy publish init", []string{"publish", "status", p.path("r")}},
		{1, "nothing is staged", []string{"publish", "sign", p.path("r"), p.path("a.key")}},
		{2, `"0d" is no time`, []string{"publish", "renew", "-for", "0d", p.path("r")}},
		{1, "-root FILE", []string{"publish", "verify", "https://192.0.2.1/"}},
		{2, "-from URL-or-DIR", []string{"modules", "update", "-state", p.path("s")}},
		{1, "no root file is named", []string{"modules", "update", "-state", p.path("s"), "-from", p.path("r")}},
		{2, "-via", []string{"modules", "update", "-state", p.path("s"), "-from", "x", "-via", "tcp://192.0.2.1:1"}},
		{2, "name of one tar file", []string{"modules", "import", "-state", p.path("s")}},
		{1, "no such version is kept", []string{"modules", "rollback", "-state", p.path("s"), "river"}},
		{1, "is not pinned", []string{"modules", "unpin", "-state", p.path("s"), "river"}},
	} {
		if slices.Contains(test.args, "sign") {
			install(t, p.path("none"), nil)
			p.run(0, "publish", "key", "-passphrase-file", p.path("none"), p.path("a.key"))
		}
		wants(t, p.run(test.status, test.args...), regexp.QuoteMeta(test.want))
	}
	if _, err := os.Stat(p.path("r")); err == nil {
		t.Error("a repository was made")
	}
}

// TestRepositoryAtStart: a managed proxy fetches a transport that only its repository has
// before it answers tor, tells tor why it cannot, and lets what is named by files win.
func TestRepositoryAtStart(t *testing.T) {
	p := newPublisher(t)
	p.publish("1.0", testmodules.Load(t, "plain_v1"))
	install(t, p.path("repository.toml"), []byte("from = ['repository']\nroot = 'repository/root.json'\nevery = '1s'\n"))
	flags := []string{"-repository", p.path("repository.toml")}
	orPort := pttest.Listen(t)
	state := ptproc.Variables{"TOR_PT_STATE_LOCATION": t.TempDir()}
	server := launch(t, serverVariables("river", orPort.Addr().String()).With(state), flags...)
	server.ready()
	client := launch(t, clientVariables("river").With(ptproc.Variables{"TOR_PT_STATE_LOCATION": t.TempDir()}), flags...)
	client.ready()
	near := pttest.Connect(t, client.Address("river"), server.Address("river"))
	pttest.Echo(t, near, pttest.Accept(t, orPort))

	p.publish("1.1", moduleVersion(testmodules.Load(t, "plain_v1"), 1))
	server.await("new connections use the new version", 1)
	client.await("new connections use the new version", 1)
	pttest.Echo(t, pttest.Connect(t, client.Address("river"), server.Address("river")), pttest.Accept(t, orPort))

	if err := os.Remove(p.path("repository/timestamp.json")); err != nil {
		t.Fatal(err)
	}
	server.await("no news of the repository can be had", 1)
	pttest.Echo(t, pttest.Connect(t, client.Address("river"), server.Address("river")), pttest.Accept(t, orPort))
	missing := launch(t, clientVariables("river").With(ptproc.Variables{"TOR_PT_STATE_LOCATION": t.TempDir()}), flags...)
	missing.Line("^CMETHOD-ERROR river timestamp.json")
	missing.Line("^CMETHODS DONE$")
	again := launch(t, clientVariables("river").With(state), flags...)
	again.Line("^CMETHOD river ")
	file := launch(t, clientVariables("river").With(state), append(flags, "-module", "river="+testmodules.Path("probe_test_type_v1"))...)
	file.Line("^CMETHOD-ERROR river .*watm_self_test_v1")
}
