package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"waterproxy/internal/display"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/tornet"
)

// UpdateTransport is the name of the transport that a demonstration's repository has. The
// executable has none of that name.
const UpdateTransport = "ferry"

// The versions that are published. They do the same.
const (
	firstVersion  = "1.0"
	secondVersion = "2.0"
)

// repository is one that the executable makes, behind a web server.
type repository struct {
	executable, dir string
	module          []byte
	server          *http.Server
	url             string
	served          chan error
	first           string // SHA-256 of the first version
}

// newRepository makes a repository, publishes the first version in it, and serves it.
func newRepository(ctx context.Context, o Options, place *folder, show *display.Display) (*repository, error) {
	report := show.Stage(stageRepository)
	report(0)
	r := &repository{executable: o.Executable, dir: filepath.Join(place.path, "road"), module: o.Module, served: make(chan error, 1)}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(r.path("passphrase"), nil, 0o600); err != nil { // an empty one
		return nil, err
	}
	if err := r.publish(ctx, "init", "-threshold", "2", "-keys", "3", "-key-dir", r.path("keys"), "-passphrase-file", r.path("passphrase"), r.repo()); err != nil {
		return nil, err
	}
	report(30)
	var err error
	if r.first, err = r.release(ctx, firstVersion, report); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r.url = "http://" + l.Addr().String()
	r.server = &http.Server{Handler: http.FileServer(http.Dir(r.repo())), ReadHeaderTimeout: time.Minute}
	go func() { r.served <- r.server.Serve(l) }()
	return r, nil
}

func (r *repository) path(name string) string { return filepath.Join(r.dir, name) }
func (r *repository) repo() string            { return r.path("repository") }

// flags are those with which both ends follow the repository.
func (r *repository) flags() []string {
	return []string{"-from", r.url, "-root", filepath.Join(r.repo(), "root.json"), "-every", "1s"}
}

func (r *repository) close() error {
	err := r.server.Close()
	if served := <-r.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// publish runs a subcommand of `waterproxy publish`.
func (r *repository) publish(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, r.executable, append([]string{"publish"}, args...)...)
	var said bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = ptproc.CleanEnvironment(), &said, &said
	err := ptproc.StartTied(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("waterproxy publish %s: %w: %s", args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// release publishes a version, signed by two of the keys, and returns its SHA-256.
func (r *repository) release(ctx context.Context, version string, report func(percent int)) (sum string, err error) {
	// A custom section, which means nothing, makes it another module.
	section := append([]byte{7}, "version"+version...) // a name of seven bytes
	wasm := slices.Concat(r.module, []byte{0, byte(len(section))}, section)
	file := r.path("module.wasm")
	if err := os.WriteFile(file, wasm, 0o600); err != nil {
		return "", err
	}
	if err := r.publish(ctx, "add", r.repo(), UpdateTransport, version, file); err != nil {
		return "", err
	}
	report(80)
	if err := r.publish(ctx, "sign", "-passphrase-file", r.path("passphrase"), r.repo(), r.path("keys/1.key"), r.path("keys/3.key")); err != nil {
		return "", err
	}
	report(100)
	return fmt.Sprintf("%x", sha256.Sum256(wasm)), nil
}

// usesNew matches what an end logs when new connections use the module with a SHA-256.
func usesNew(sum string) *regexp.Regexp {
	return regexp.MustCompile("new connections use the new version.*" + sum)
}

// The first fetch goes on slowly from a quarter of the file on, and does not get further
// than three quarters, before the new version is in use: that is what it is to live through.
const slowPause = 50 * time.Millisecond

// slowFetch is a fetch that outlasts a change.
type slowFetch struct {
	reached chan struct{} // closed at a quarter
	changed chan struct{} // closed by the caller
	ended   chan error    // has the result
	before  int64         // bytes that had come by the change; to be read after the end
	rest    func(percent int)
}

func startSlowly(ctx context.Context, web *tornet.Web, client *http.Client, report, rest func(percent int)) *slowFetch {
	f := &slowFetch{reached: make(chan struct{}), changed: make(chan struct{}), ended: make(chan error, 1), rest: rest}
	go func() {
		f.ended <- web.Download(ctx, client, func(sofar int64) {
			percent := int(min(sofar*100/web.Size(), 99))
			if isClosed(f.changed) {
				rest(percent)
				return
			}
			if !isClosed(f.reached) {
				report(min(percent, 25))
			}
			f.before = sofar
			switch {
			case percent < 25:
				return
			case !isClosed(f.reached):
				close(f.reached)
			}
			var pause <-chan time.Time
			if percent < 75 {
				pause = time.After(slowPause)
			}
			select {
			case <-pause:
			case <-f.changed:
			case <-ctx.Done():
			}
		})
	}()
	return f
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// fetch fetches the file, publishes a new version meanwhile, fetches the file again over
// that, and shows the table.
func (r *repository) fetch(ctx context.Context, o Options, place *folder, web *tornet.Web, show *display.Display, through stack) error {
	if err := web.Probe(ctx, through.http()); err != nil {
		return err
	}
	during, cancel := context.WithCancel(ctx)
	defer cancel()
	report := show.Stage(stageDownload)
	report(0)
	slow := startSlowly(during, web, through.http(), report, show.Stage(stageRest))
	second, took, err := r.replace(ctx, show, through, slow)
	if err != nil {
		cancel()
		return errors.Join(err, <-slow.ended)
	}
	if err := <-slow.ended; err != nil {
		return fmt.Errorf("fetching the file while the module was replaced: %w", err)
	}
	slow.rest(100)
	report = show.Stage(stageAnew)
	client, err := through.anew(ctx, func(percent int) { report(min(percent, 99)) })
	if err != nil {
		return err
	}
	if err := web.Probe(ctx, client); err != nil {
		return err
	}
	report(100)
	report = show.Stage(stageSecond)
	report(0)
	err = web.Download(ctx, client, func(sofar int64) { report(int(min(sofar*100/web.Size(), 99))) })
	if err != nil {
		return fmt.Errorf("fetching the file over the new version: %w", err)
	}
	report(100)
	c, err := checkCarried(ctx, o, place, web, 2)
	if err != nil {
		return err
	}
	whole := fmt.Sprintf("%d bytes, SHA-256 %s as served", web.Size(), web.SHA256())
	return writeTable(o.Out, [][2]string{
		{"transport", o.Transport},
		{"version " + firstVersion, r.first},
		{"version " + secondVersion, second},
		{"in use at both ends", fmt.Sprintf("%.2f s after the second signature", took.Seconds())},
		{"fetched over " + firstVersion, whole},
		{"of that afterwards", fmt.Sprintf("%d bytes", web.Size()-slow.before)},
		{"fetched over " + secondVersion, whole},
		{"module to network", fmt.Sprintf("%d bytes", c.toNetwork)},
		{"network to module", fmt.Sprintf("%d bytes", c.fromNetwork)},
	})
}

// replace publishes a new version once a fetch is under way, and waits until both ends use
// it. took is how long they needed for that.
func (r *repository) replace(ctx context.Context, show *display.Display, through stack, slow *slowFetch) (sum string, took time.Duration, err error) {
	select {
	case <-slow.reached:
	case err := <-slow.ended:
		slow.ended <- nil // whoever waits for it
		return "", 0, fmt.Errorf("fetching the file: %w", err)
	}
	if sum, err = r.release(ctx, secondVersion, show.Stage(stagePublish)); err != nil {
		return "", 0, err
	}
	signed := time.Now()
	report := show.Stage(stageReplace)
	report(0)
	if err := through.replaced(ctx, sum); err != nil {
		return "", 0, fmt.Errorf("waiting until both ends use the new version: %w", err)
	}
	took = time.Since(signed)
	report(100)
	close(slow.changed)
	return sum, took, nil
}
