//go:build unix

package self

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"waterproxy/internal/program"
	"waterproxy/internal/pttest"
	"waterproxy/transport/testmodules"
)

// badFiles are what a transport's files may be instead of good ones: for each transport,
// how it comes to be, and the text that names the fault.
var badFiles = map[string]struct {
	place func(dir string) error
	want  string
}{
	"fifo":     {func(dir string) error { return syscall.Mkfifo(dir+"/fifo.wasm", 0o600) }, "fifo.wasm is a FIFO, not a regular file"},
	"folder":   {func(dir string) error { return os.Mkdir(dir+"/folder.wasm", 0o700) }, "folder.wasm is a directory, not a regular file"},
	"dangling": {func(dir string) error { return os.Symlink("nothing", dir+"/dangling.wasm") }, "dangling.wasm: no such file or directory"},
	"device":   {func(dir string) error { return os.Symlink("/dev/zero", dir+"/device.wasm") }, "device.wasm is a device, not a regular file"},
	"sparse":   {func(dir string) error { return sparse(dir+"/sparse.wasm", 1<<30) }, "sparse.wasm is too large: it has more than 67108864 bytes"},
	"text":     {func(dir string) error { return put(dir+"/text.wasm", "text") }, "no valid WebAssembly"},
	"settings_fifo": {func(dir string) error {
		return firstError(good(dir, "settings_fifo"), syscall.Mkfifo(dir+"/settings_fifo.toml", 0o600))
	}, "settings_fifo.toml is a FIFO"},
	"settings_sparse": {func(dir string) error {
		return firstError(good(dir, "settings_sparse"), sparse(dir+"/settings_sparse.toml", 1<<30))
	}, "settings_sparse.toml is too large: it has more than 32768 bytes"},
	"settings_wide": {func(dir string) error {
		return firstError(good(dir, "settings_wide"), put(dir+"/settings_wide.toml", "\xff\xfes\x00"))
	}, "settings_wide.toml:1: the file is in UTF-16"},
	"config_fifo": {func(dir string) error {
		return firstError(good(dir, "config_fifo"), put(dir+"/config_fifo.toml", "config = 'c'"), syscall.Mkfifo(dir+"/c", 0o600))
	}, "/c is a FIFO"},
	"config_sparse": {func(dir string) error {
		return firstError(good(dir, "config_sparse"), put(dir+"/config_sparse.toml", "config = 'd'"), sparse(dir+"/d", 1<<30))
	}, "/d is too large: it has more than 1048576 bytes"},
}

func put(file, content string) error { return os.WriteFile(file, []byte(content), 0o600) }

func sparse(file string, size int64) error {
	return firstError(put(file, ""), os.Truncate(file, size))
}

func good(dir, name string) error {
	return os.Symlink(testmodules.Path("plain_v1"), filepath.Join(dir, name+".wasm"))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// badDirectory returns a directory with badFiles, a good module, files that are nobody's,
// and three that no transport has. names are the transports.
func badDirectory(t *testing.T) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	errs := []error{
		good(dir, "good"),
		put(dir+"/good.toml", "\ufeffinstances = 1"),
		os.Symlink("user@host.1:2", dir+"/.#good.toml"), os.Symlink("user@host.1:2", dir+"/.#mine.wasm"),
		put(dir+"/._good.wasm", "x"), put(dir+"/.good.toml.swp", "x"), put(dir+"/#good.toml#", "x"), put(dir+"/good.toml~", "x"),
		syscall.Mkfifo(dir+"/.hidden.wasm", 0o600), put(dir+"/notes.txt", "x"),
		good(dir, "my-module"), put(dir+"/my-module.toml", ""), put(dir+"/nobodys.toml", ""),
	}
	for name, bad := range badFiles {
		errs = append(errs, bad.place(dir))
		names = append(names, name)
	}
	if err := firstError(errs...); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return dir, names
}

// A file that is wrong costs its own transport, and one that is nobody's costs nothing.
func TestBadFiles(t *testing.T) {
	dir, names := badDirectory(t)
	all := append([]string{"good", "plain"}, names...)
	for side, p := range map[string]*process{
		"C": start(t, clientVariables(strings.Join(all, ",")), "-modules", dir),
		"S": start(t, serverVariables(strings.Join(all, ","), pttest.DeadAddress(t)), "-modules", dir),
	} {
		said := strings.Join(p.ready(), "\n")
		for _, name := range []string{"good", "plain"} {
			if !strings.Contains(said, side+"METHOD "+name+" ") {
				t.Errorf("%s is not offered: %s", name, said)
			}
		}
		for _, name := range names {
			p.Line(`^` + side + `METHOD-ERROR ` + name + ` .*` + regexp.QuoteMeta(badFiles[name].want))
		}
		for _, stray := range []string{"my-module.wasm is not offered", "my-module.toml is not used", "nobodys.toml is not used"} {
			p.Line(`^LOG SEVERITY=warning .*` + regexp.QuoteMeta(stray))
		}
		for _, line := range p.Stdout.All() {
			for _, nobodys := range []string{"ENV-ERROR", ".#", "._", "~", ".swp", "hidden", "notes"} {
				if strings.Contains(line, nobodys) {
					t.Errorf("it says %q", line)
				}
			}
		}
	}
}

// A directory of modules that cannot be read costs the modules in it.
func TestNoModulesDirectory(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Join(t.TempDir(), "missing"), os.Args[0], fifo} {
		p := start(t, clientVariables("plain,mine"), "-modules", dir)
		p.Address("plain")
		p.Line(`^LOG SEVERITY=warning .*the directory of modules cannot be read: .*` + regexp.QuoteMeta(dir))
	}
}

// A flag of one transport that is wrong costs that transport, and one of a transport that
// there is not costs nothing.
func TestBadModuleFlags(t *testing.T) {
	for _, test := range []struct{ flag, value, want string }{
		{"-module-instances", "mine=0", `"0" is no number of instances`},
		{"-module-allow", "mine=nowhere", "nowhere"},
		{"-module-config", "mine=/nowhere", "/nowhere: no such file"},
		{"-module", "mine=/y", "mine is given twice"},
	} {
		p := start(t, clientVariables("plain,mine"), append(module("mine", "plain_v1"), test.flag, test.value)...)
		p.Line(`^CMETHOD-ERROR mine .*` + regexp.QuoteMeta(test.want))
		p.Address("plain")
	}
	for _, test := range []struct{ flag, value, want string }{
		{"-module", "a-b=/x", `"a-b" is no transport name`},
		{"-module-config", "x=/x", "a configuration is given to x, which is no transport here"},
		{"-module-instances", "x=1", "a number of instances is given to x,"},
		{"-module-allow", "x=*:1", "addresses are granted to x,"},
		{"-module-state", "x", "a directory for state is granted to x,"},
		{"-module-state", "a-b", `"a-b" is no transport name`},
	} {
		p := start(t, clientVariables("plain"), test.flag, test.value)
		p.Line(`^LOG SEVERITY=warning .*` + strings.ReplaceAll(regexp.QuoteMeta(test.want), `"`, `\S*`))
		p.Address("plain")
		// Where the user types it, it is an error.
		p = run(t, nil, "client", test.flag, test.value, "plain", "127.0.0.1:9")
		p.CheckStatus(program.ExitUsage)
		if text := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(text, test.want) {
			t.Errorf("%s %s: standard error has %q", test.flag, test.value, text)
		}
	}
}

// The client and the server without tor use one transport, and no other is in its way.
func TestStandaloneBadFiles(t *testing.T) {
	dir, _ := badDirectory(t)
	p := serve(t, "client", "-state", stateDir, "-modules", dir, "-socks", "127.0.0.1:0", "good", "127.0.0.1:9")
	p.Line(`^SOCKS5 proxy at (\S+)$`)
	p = serve(t, "server", "-state", stateDir, "-modules", dir, "-transport", "good", "-listen", "127.0.0.1:0", "-forward", "127.0.0.1:9")
	p.Line(`good 127`)
	p = run(t, nil, "client", "-state", stateDir, "-modules", dir, "-socks", "127.0.0.1:0", "fifo", "127.0.0.1:9")
	p.CheckStatus(program.ExitFailure)
	if text := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(text, badFiles["fifo"].want) {
		t.Errorf("standard error has %q", text)
	}
}

// `waterproxy check` tells of all that is wrong, and hangs nowhere; nor does `inspect`.
func TestCheckBadFiles(t *testing.T) {
	dir, names := badDirectory(t)
	p := run(t, nil, "check", dir)
	p.CheckStatus(program.ExitFailure)
	said := strings.Join(p.Stderr.All(), "\n")
	for _, name := range names {
		if !strings.Contains(said, badFiles[name].want) {
			t.Errorf("%s: %q is missing", name, badFiles[name].want)
		}
	}
	for _, want := range []string{"my-module.wasm is not offered", "my-module.toml is not used", "nobodys.toml is not used"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(said, ".#") || strings.Contains(said, "hidden") {
		t.Error("it tells of files that are nobody's")
	}
	if out := strings.Join(goodLines(p), "\n"); out != filepath.Join(dir, "good")+": good, as client and server" {
		t.Errorf("good are %q", out)
	}
	if t.Failed() {
		t.Log(said)
	}
	for _, test := range []struct{ command, file, want string }{
		{"check", "fifo.wasm", "is a FIFO"}, {"check", "settings_fifo.toml", "is a FIFO"}, {"check", "config_fifo.toml", "is a FIFO"},
		{"check", "sparse.wasm", "too large"}, {"inspect", "fifo.wasm", "is a FIFO"}, {"inspect", "sparse.wasm", "too large"},
		{"inspect", "device.wasm", "is a device"}, {"inspect", "folder.wasm", "is a directory"},
	} {
		p := run(t, nil, test.command, filepath.Join(dir, test.file))
		p.CheckStatus(program.ExitFailure)
		if text := strings.Join(p.Stderr.All(), "\n"); !strings.Contains(text, test.want) {
			t.Errorf("%s %s: %q", test.command, test.file, text)
		}
	}
}
