// Package updater looks at a repository of modules for a process that serves: in a process
// of its own, so that what comes from the network is parsed where no connection is, with
// limits of time and memory, and so that its memory is free again afterwards.
package updater

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"waterproxy/internal/mirror"
	"waterproxy/internal/outbound"
	"waterproxy/internal/program"
	"waterproxy/internal/repository"
	"waterproxy/internal/rlimit"
)

// Request says which repository is to be looked at, and how it is reached.
type Request struct {
	// State is the state directory.
	State string
	// Root is the metadata that is trusted at first.
	Root []byte
	// From are mirrors, tried in turn; see [mirror.Open].
	From []string
	// Proxy is the proxy through which mirrors are reached, as outbound.ParseProxy reads
	// it; "" for none.
	Proxy string
	// Source4 and Source6 are the addresses that connections come from; "" for the system's
	// choice.
	Source4, Source6 string
	// Names are the transports to keep up to date; nil for all. Retry tries again what did
	// not work before.
	Names []string
	Retry bool
	// Until is when the look ends; zero for as long as any may take.
	Until time.Time
}

// Limits of a look.
const (
	// deadline is for a look in all.
	deadline = 30 * time.Minute
	// softMemory makes the garbage collector work harder, and hardMemory ends the process;
	// in bytes.
	softMemory = 64 << 20
	hardMemory = 1 << 30
	// gcPercent lets a short process be done before it collects much.
	gcPercent = 400
	// processorSeconds end it too.
	processorSeconds = 120
	// maxResult bounds what a look says, in bytes.
	maxResult = 4 << 20
)

// Look looks at a repository in this process.
func Look(ctx context.Context, r Request, log *slog.Logger) (news repository.News, err error) {
	d := outbound.Dialer{}
	if r.Proxy != "" {
		if d.Proxy, err = outbound.ParseProxy(r.Proxy); err != nil {
			return news, fmt.Errorf("the proxy by which repositories are reached: %w", err)
		}
	}
	if d.Source4, err = outbound.ParseSource4(r.Source4); err != nil {
		return news, err
	}
	if d.Source6, err = outbound.ParseSource6(r.Source6); err != nil {
		return news, err
	}
	o := repository.Options{Root: r.Root, Names: r.Names, Retry: r.Retry, Waterproxy: program.Version, Now: time.Now().UTC(), Log: log}
	var errs []error
	for _, where := range r.From {
		m, err := mirror.Open(where, mirror.Options{Dial: d.DialContext})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer m.Close()
		o.Mirrors = append(o.Mirrors, m)
	}
	if len(o.Mirrors) == 0 {
		return news, errors.Join(append(errs, errors.New("no mirror of the repository can be used"))...)
	}
	for _, err := range errs {
		log.Warn("a mirror cannot be used", "error", err)
	}
	if r.Until.IsZero() {
		r.Until = time.Now().Add(deadline)
	}
	ctx, cancel := context.WithDeadline(ctx, r.Until) // of which each mirror has a share
	defer cancel()
	return repository.New(r.State).Update(ctx, o)
}

// result is what a process says at its end.
type result struct {
	News  repository.News
	Error string
	Notes []note
}

// note is a line for the log.
type note struct {
	Level slog.Level
	Text  string
	Attrs []string // keys and values
}

// Start looks at a repository in a process of its own. ctx ends it.
func Start(ctx context.Context, r Request, log *slog.Logger) (repository.News, error) {
	if len(program.Updater) == 0 {
		return Look(ctx, r, log) // this is not the program
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	r.Until, _ = ctx.Deadline()
	text, err := json.Marshal(r)
	if err != nil {
		return repository.News{}, err
	}
	child := exec.CommandContext(ctx, program.Updater[0], program.Updater[1:]...)
	child.Env = program.PartEnvironment()
	// By these it reaches mirrors as this process would: certificates, and look-ups of names.
	for _, key := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR", "GODEBUG"} {
		if value, ok := os.LookupEnv(key); ok {
			child.Env = append(child.Env, key+"="+value)
		}
	}
	var out, complaints bounded
	child.Stdout, child.Stderr = &out, &complaints
	err = run(child, text)
	if child.Process == nil && isRefused(err) {
		refused.Do(func() {
			log.Warn("a repository is looked at without limits of time and memory", "error", err)
		})
		return Look(ctx, r, log)
	}
	var answer result
	switch bad := json.Unmarshal(out.Bytes(), &answer); {
	case ctx.Err() != nil:
		return repository.News{}, fmt.Errorf("the look took too long, or was ended: %w", ctx.Err())
	case err != nil:
		first, _, _ := strings.Cut(complaints.String(), "\n")
		return repository.News{}, fmt.Errorf("the process that looks at the repository failed: %w: %s", err, first)
	case bad != nil:
		return repository.News{}, fmt.Errorf("the process that looks at the repository: %w", bad)
	}
	for _, n := range answer.Notes {
		attrs := make([]any, len(n.Attrs))
		for i, a := range n.Attrs {
			attrs[i] = a
		}
		log.Log(ctx, n.Level, n.Text, attrs...)
	}
	if answer.Error != "" {
		return answer.News, errors.New(answer.Error)
	}
	return answer.News, nil
}

// run gives a child its request. The child ends if the pipe does, as it would with this
// process.
func run(child *exec.Cmd, request []byte) error {
	stdin, err := child.StdinPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	_, writeErr := stdin.Write(request)
	if err := child.Wait(); err != nil {
		return err
	}
	return writeErr
}

// refused is for the log.
var refused sync.Once

// isRefused reports whether the system lets this process start no other, as where there is
// seccomp and no Landlock: then the walls cannot tell programs apart.
func isRefused(err error) bool { return errors.Is(err, syscall.EPERM) }

// bounded is a buffer that keeps the beginning of what is written.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), maxResult-b.Len())])
	return len(p), nil
}

// Main is the process: it reads a Request and writes what has come of it. It returns the
// exit status.
func Main(stdin io.Reader, stdout, stderr io.Writer) int {
	debug.SetMemoryLimit(softMemory)
	debug.SetGCPercent(gcPercent)
	if err := rlimit.Set(processorSeconds, hardMemory); err != nil {
		fmt.Fprintln(stderr, "limit the process:", err)
		return program.ExitFailure
	}
	return serve(stdin, stdout, stderr)
}

// serve answers a request.
func serve(stdin io.Reader, stdout, stderr io.Writer) int {
	var r Request
	if err := json.NewDecoder(stdin).Decode(&r); err != nil {
		fmt.Fprintln(stderr, "read the request:", err)
		return program.ExitUsage
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		// Whether it ends with an error or without, whoever asked is gone.
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	var notes collector
	var answer result
	var err error
	if answer.News, err = Look(ctx, r, slog.New(&notes)); err != nil {
		answer.Error = err.Error()
	}
	answer.Notes = notes.all
	if err := json.NewEncoder(stdout).Encode(answer); err != nil {
		fmt.Fprintln(stderr, err)
		return program.ExitFailure
	}
	return 0
}

// collector is a log that is kept for the result. It is for one goroutine.
type collector struct{ all []note }

func (c *collector) Enabled(context.Context, slog.Level) bool { return true }

const maxNotes = 200

func (c *collector) Handle(_ context.Context, r slog.Record) error {
	if len(c.all) == maxNotes {
		return nil
	}
	n := note{Level: r.Level, Text: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		n.Attrs = append(n.Attrs, a.Key, a.Value.String())
		return true
	})
	c.all = append(c.all, n)
	return nil
}

// WithAttrs and WithGroup are not used by what looks at repositories.
func (c *collector) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *collector) WithGroup(string) slog.Handler      { return c }
