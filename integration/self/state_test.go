//go:build unix

package self

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/program"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// ordinary is where a user who is not root can run the program: root may write everywhere.
type ordinary struct {
	dir  string // which that user can write to
	exe  string
	cred *syscall.SysProcAttr // nil if the tests do not run as root
}

const ordinaryUser = 65534

func asOrdinary(t *testing.T) *ordinary {
	t.Helper()
	dir, err := os.MkdirTemp("", "waterproxy-ordinary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := &ordinary{dir: dir, exe: filepath.Join(dir, "waterproxy")}
	if err := os.Link(os.Args[0], o.exe); err != nil { // another file system
		copyTo(t, o.exe, os.Args[0], 0o755)
	}
	copyTo(t, o.module("t"), testmodules.Path("plain_v1"), 0o644)
	copyTo(t, o.module("kept"), testmodules.Path(argtest), 0o644)
	if os.Getuid() == 0 {
		if err := os.Chown(dir, ordinaryUser, ordinaryUser); err != nil {
			t.Fatal(err)
		}
		o.cred = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUser, Gid: ordinaryUser}}
	}
	return o
}

func copyTo(t *testing.T, to, from string, mode fs.FileMode) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, mode); err != nil {
		t.Fatal(err)
	}
}

func (o *ordinary) module(name string) string { return filepath.Join(o.dir, name+".wasm") }

// flags offer the transports t, which keeps nothing, and kept, whose server needs a key.
func (o *ordinary) flags() []string {
	return []string{"-module", "t=" + o.module("t"), "-module", "kept=" + o.module("kept")}
}

// mkdir makes a directory of the ordinary user's, with a mode whatever the umask is.
func (o *ordinary) mkdir(t *testing.T, mode fs.FileMode, names ...string) string {
	t.Helper()
	dir := filepath.Join(append([]string{o.dir}, names...)...)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if o.cred != nil {
		if err := os.Chown(dir, ordinaryUser, ordinaryUser); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start starts the program. limit, if not empty, is a command of the shell's that comes
// before.
func (o *ordinary) start(t *testing.T, env ptproc.Variables, limit string, args ...string) *process {
	t.Helper()
	script := `exec "$0" "$@"`
	if limit != "" {
		script = limit + "; " + script
	}
	p := &process{pttest.New(t, env, append([]string{"/bin/sh", "-c", script, o.exe}, args...)...)}
	p.Cmd.Dir, p.Cmd.SysProcAttr = o.dir, o.cred
	p.Cmd.Env = env.AddTo([]string{pttest.ProgramVariable + "=1", "GORACE=atexit_sleep_ms=0"})
	p.Begin()
	return p
}

// lasting is the environment for a process that does not end with its standard input.
func lasting(env ptproc.Variables, state string) ptproc.Variables {
	return env.With(ptproc.Variables{"TOR_PT_STATE_LOCATION": state}).Without("TOR_PT_EXIT_ON_STDIN_CLOSE")
}

var warning = regexp.MustCompile(`^LOG SEVERITY=warning|level=WARN`)

// checkWarnings checks that there is one warning so far, which has the texts.
func checkWarnings(t *testing.T, lines []string, texts ...string) {
	t.Helper()
	warnings := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !warning.MatchString(line) })
	if len(warnings) != 1 {
		t.Errorf("there are %d warnings, want one: %q", len(warnings), warnings)
		return
	}
	for _, text := range texts {
		if !strings.Contains(warnings[0], text) {
			t.Errorf("the warning %q does not have %q", warnings[0], text)
		}
	}
}

// A state directory that cannot be used costs a client nothing but time, and of the
// servers the one that needs a key.
func TestStateUnusable(t *testing.T) {
	o := asOrdinary(t)
	file := o.module("t")
	dangling := filepath.Join(o.dir, "dangling")
	if err := os.Symlink(filepath.Join(o.dir, "gone"), dangling); err != nil {
		t.Fatal(err)
	}
	readOnly := o.mkdir(t, 0o500, "read only")
	for name, dir := range map[string]string{
		"a file":         file,
		"below a file":   filepath.Join(file, "state"),
		"a link":         dangling,
		"not to be made": filepath.Join(readOnly, "state"),
		"read only":      readOnly,
		"unreadable":     o.mkdir(t, 0, "unreadable"),
	} {
		t.Run(name, func(t *testing.T) {
			client := o.start(t, lasting(clientVariables("t"), dir), "", o.flags()...)
			client.Address("t")
			client.End()
			checkWarnings(t, client.Stdout.All(), dir, "nothing is cached", "TOR_PT_STATE_LOCATION")

			server := o.start(t, lasting(serverVariables("t,kept", "127.0.0.1:1"), dir), "", append(o.flags(), "-module-state", "kept")...)
			server.Address("t")
			server.Line(`^SMETHOD-ERROR kept .*` + regexp.QuoteMeta(dir) + `.*TOR_PT_STATE_LOCATION`)
			server.End()
			checkWarnings(t, server.Stdout.All(), dir)
		})
	}
}

// From a directory to which others can write nothing is believed; keys are kept there as
// other transports keep theirs.
func TestStateNotPrivate(t *testing.T) {
	o := asOrdinary(t)
	parent := o.mkdir(t, 0o775, "parent")
	for name, dir := range map[string]string{
		"775":           o.mkdir(t, 0o775, "775"),
		"2775":          o.mkdir(t, 0o775|fs.ModeSetgid, "2775"),
		"below 775":     o.mkdir(t, 0o700, "parent", "state"),
		"made in a 775": filepath.Join(parent, "made", "state"),
	} {
		t.Run(name, func(t *testing.T) {
			p := o.start(t, lasting(clientVariables("t"), dir), "", o.flags()...)
			p.Address("t")
			p.End()
			checkWarnings(t, p.Stdout.All(), "can be written by other users", dir)
			for file := range files(t, dir) {
				t.Errorf("there is %s", file)
			}
		})
	}
	dir := filepath.Join(o.dir, "2775")
	p := o.start(t, lasting(serverVariables("kept", "127.0.0.1:1"), dir), "", append(o.flags(), "-module-state", "kept")...)
	published := p.Line(`^SMETHOD kept 127\.0\.0\.1:\d+ ARGS:key=([0-9a-f]{16})$`)[1]
	if key, err := os.ReadFile(filepath.Join(dir, "modules", "kept", "key")); string(key) != published {
		t.Errorf("the key %q, %v is kept, and %q was published", key, err, published)
	}
}

// Without a home there is no state: a transport that keeps nothing starts by hand as
// well, and one that needs a key says what to do.
func TestStateWithoutHome(t *testing.T) {
	o := asOrdinary(t)
	readOnly := o.mkdir(t, 0o500, "home")
	for name, env := range map[string]ptproc.Variables{
		"the root":      {"HOME": "/"},
		"missing":       {"HOME": filepath.Join(o.dir, "nonexistent")},
		"unset":         {},
		"not writable":  {"HOME": readOnly},
		"not a name":    {"HOME": o.module("t")},
		"of systemd":    {"STATE_DIRECTORY": filepath.Join(readOnly, "state")},
		"of a variable": {"XDG_STATE_HOME": readOnly},
	} {
		keyless := name == "not writable" // one will do: the module takes long to compile
		t.Run(name, func(t *testing.T) {
			client := o.start(t, env, "", append([]string{"client", "-socks", "127.0.0.1:0"}, append(o.flags(), "t", "127.0.0.1:1")...)...)
			client.Line(`^SOCKS5 proxy at `)
			client.End()
			checkWarnings(t, client.Stderr.All(), "-state DIR")

			serve := append([]string{"server", "-listen", "127.0.0.1:0", "-forward", "127.0.0.1:1"}, o.flags()...)
			server := o.start(t, env, "", append(serve, "-transport", "t")...)
			server.Line(`^Bridge t `)
			server.End()
			checkWarnings(t, server.Stderr.All(), "-state DIR")
			if _, err := os.Stat(filepath.Join(o.dir, "nonexistent")); err == nil {
				t.Error("a home was made")
			}
			if !keyless {
				return
			}
			refused := o.start(t, env, "", append(serve, "-transport", "kept")...)
			refused.Wait(pttest.Patience)
			refused.CheckStatus(program.ExitFailure)
			said := refused.Stderr.All()
			if last := said[len(said)-1]; !strings.Contains(last, "-state DIR") {
				t.Errorf("it says %q", last)
			}
		})
	}
}

// systemd may name several directories; the first is ours.
func TestStateDirectoryList(t *testing.T) {
	o := asOrdinary(t)
	first, second := filepath.Join(o.dir, "first"), filepath.Join(o.dir, "second")
	p := o.start(t, ptproc.Variables{"STATE_DIRECTORY": first + ":" + second}, "", append([]string{"client", "-socks", "127.0.0.1:0"}, append(o.flags(), "t", "127.0.0.1:1")...)...)
	p.Line(`^SOCKS5 proxy at `)
	if _, err := os.Stat(filepath.Join(first, "compiled")); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{second, first + ":" + second} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("there is %s", dir)
		}
	}
}

// A file that cannot be written, as on a full disk, costs what was to be in it.
func TestStateFull(t *testing.T) {
	o := asOrdinary(t)
	dir := o.mkdir(t, 0o700, "state")
	const limit = "ulimit -f 4" // blocks of 512 or 1024 bytes
	for range 2 {               // nothing that a first start leaves hinders the second
		client := o.start(t, lasting(clientVariables("t"), dir), limit, o.flags()...)
		client.Address("t")
		client.End()
		checkWarnings(t, client.Stdout.All(), "compiled modules cannot be kept", filepath.Join(dir, "compiled"), "file too large")
		if err := os.RemoveAll(filepath.Join(dir, "started")); err != nil {
			t.Fatal(err)
		}
	}
	server := o.start(t, lasting(serverVariables("t,kept", "127.0.0.1:1"), dir), "ulimit -f 0", append(o.flags(), "-module-state", "kept")...)
	server.Address("t")
	server.Line(`^SMETHOD-ERROR kept .*` + regexp.QuoteMeta(dir) + `.*file too large.*TOR_PT_STATE_LOCATION`)
}

// The log goes where it can.
func TestStateLog(t *testing.T) {
	o := asOrdinary(t)
	dir := o.mkdir(t, 0o500, "state")
	p := o.start(t, lasting(clientVariables("t"), dir), "", append(o.flags(), "-log", "log")...)
	p.Address("t")
	p.Line(`^LOG SEVERITY=warning MESSAGE=".*the log goes to tor alone.*` + regexp.QuoteMeta(dir))
	p = o.start(t, nil, "", append([]string{"client", "-state", dir, "-log", "log", "-socks", "127.0.0.1:0"}, append(o.flags(), "t", "127.0.0.1:1")...)...)
	p.Line(`^SOCKS5 proxy at `)
	p.ErrorLine(`level=WARN msg="the log goes to standard error".*` + regexp.QuoteMeta(dir))
}

// What is damaged in the caches is reported once, and mended: at a start that loads the
// module, and at one that leaves that to the first connection.
func TestCacheDamaged(t *testing.T) {
	for _, what := range []string{"compiled", "started"} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			env := clientVariables("t").With(ptproc.Variables{"TOR_PT_STATE_LOCATION": dir})
			flags := module("t", "posix_v1")
			use := func() *process {
				t.Helper()
				p := launch(t, env, flags...)
				echoThrough(t, p.Address("t"))
				p.CloseStdin()
				p.Wait(pttest.EndLimit)
				return p
			}
			use()
			for file := range files(t, filepath.Join(dir, what)) {
				if err := os.Truncate(file, 100); err != nil {
					t.Fatal(err)
				}
			}
			checkWarnings(t, use().Stdout.All(), "damaged", "transport=t", filepath.Join(dir, what))
			for _, line := range use().Stdout.All() {
				if warning.MatchString(line) {
					t.Errorf("it was not mended: %s", line)
				}
			}
		})
	}
}

// Processes that share a state directory, and are killed at any moment, do no harm.
func TestCacheShared(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	env := clientVariables("kept").With(ptproc.Variables{"TOR_PT_STATE_LOCATION": dir})
	flags := module("kept", argtest)
	begin := func() *process { return start(t, env, flags...) }
	two := []*process{begin(), begin()}
	// One dies while it compiles.
	awaitFile(t, filepath.Join(dir, "compiled", "scratch-*"), two[0].Exited())
	two[0].End()
	two[1].Address("kept")
	// The next one removes what the first has left, once it loads the module.
	third := begin()
	if _, code := pttest.Ask(t, third.Address("kept"), pttest.Listen(t).Addr().String(), "key=1"); code != pttest.ReplyGranted {
		t.Errorf("reply %d", code)
	}
	for _, p := range []*process{two[1], third} {
		for _, line := range p.Stdout.All() {
			if warning.MatchString(line) {
				t.Error(line)
			}
		}
	}
	kept, err := os.ReadDir(filepath.Join(dir, "compiled"))
	if err != nil || len(kept) != 2 {
		t.Fatalf("%v, %v are kept, want the module's code, and what it was made of", kept, err)
	}
	for _, file := range kept {
		if !file.Type().IsRegular() {
			t.Errorf("%v is kept", file)
		}
	}
}

// awaitFile waits for a file, or for the end of the process that is to make it.
func awaitFile(t *testing.T, pattern string, exited <-chan struct{}) {
	t.Helper()
	timeout := time.After(pttest.Patience)
	for {
		if found, err := filepath.Glob(pattern); err != nil || len(found) > 0 {
			return
		}
		select {
		case <-exited:
			t.Fatalf("the process ended without %s", pattern)
		case <-timeout:
			t.Fatalf("there is no %s", pattern)
		case <-time.After(time.Millisecond):
		}
	}
}

// What is in the place of the file for a crash is not read, written or waited for.
func TestStateCrashFile(t *testing.T) {
	const maxCrash = 1 << 20
	precious := filepath.Join(t.TempDir(), "precious")
	for name, place := range map[string]func(file string) error{
		"a FIFO":  func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"a link":  func(file string) error { return os.Symlink(precious, file) },
		"a large": func(file string) error { return os.WriteFile(file, make([]byte, maxCrash+1), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(precious, []byte("content"), 0o600); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "crash.txt")
			if err := place(file); err != nil {
				t.Fatal(err)
			}
			p := launch(t, clientVariables("t").With(ptproc.Variables{"TOR_PT_STATE_LOCATION": dir}), module("t", "plain_v1")...)
			p.Address("t")
			if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() || info.Size() > 0 {
				t.Errorf("there is %v, %v", info, err)
			}
			if text, err := os.ReadFile(precious); string(text) != "content" {
				t.Errorf("what a link led to is %q, %v", text, err)
			}
			if info, err := os.Stat(filepath.Join(dir, "crash-last.txt")); err == nil && info.Size() > maxCrash {
				t.Errorf("%d bytes of a crash were kept", info.Size())
			}
		})
	}
}
