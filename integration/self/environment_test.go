package self

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/program"
	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// What tor or its operator got wrong is told to tor in one line, after which tor
// does not start the proxy again.
func TestPTSpec_3_3_1_Errors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	client := clientVariables("plain")
	server := serverVariables("plain", "127.0.0.1:9001")
	for name, test := range map[string]struct {
		env  ptproc.Variables
		args []string
		want string // how the line starts
	}{
		"no version":             {env: client.Without("TOR_PT_MANAGED_TRANSPORT_VER"), want: "ENV-ERROR no TOR_PT_MANAGED_TRANSPORT_VER"},
		"empty version":          {env: client.With(ptproc.Variables{"TOR_PT_MANAGED_TRANSPORT_VER": ""}), want: "ENV-ERROR no TOR_PT_MANAGED_TRANSPORT_VER"},
		"other versions":         {env: client.With(ptproc.Variables{"TOR_PT_MANAGED_TRANSPORT_VER": "2,11"}), want: "VERSION-ERROR no-version"},
		"server, other version":  {env: server.With(ptproc.Variables{"TOR_PT_MANAGED_TRANSPORT_VER": "0"}), want: "VERSION-ERROR no-version"},
		"no role":                {env: client.Without("TOR_PT_CLIENT_TRANSPORTS"), want: "ENV-ERROR no TOR_PT_SERVER_BINDADDR"},
		"empty client":           {env: client.With(ptproc.Variables{"TOR_PT_CLIENT_TRANSPORTS": ""}), want: "ENV-ERROR no TOR_PT_CLIENT_TRANSPORTS"},
		"no server transports":   {env: server.Without("TOR_PT_SERVER_TRANSPORTS"), want: "ENV-ERROR no TOR_PT_SERVER_TRANSPORTS"},
		"bind address, no name":  {env: server.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "127.0.0.1:0"}), want: "ENV-ERROR TOR_PT_SERVER_BINDADDR"},
		"bind address, no port":  {env: server.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "plain-127.0.0.1"}), want: "ENV-ERROR TOR_PT_SERVER_BINDADDR"},
		"bind address, host":     {env: server.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "plain-localhost:0"}), want: "ENV-ERROR TOR_PT_SERVER_BINDADDR"},
		"bind address, big port": {env: server.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "plain-127.0.0.1:65536"}), want: "ENV-ERROR TOR_PT_SERVER_BINDADDR"},
		"bind address twice":     {env: server.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "plain-127.0.0.1:0,plain-127.0.0.2:0"}), want: "ENV-ERROR TOR_PT_SERVER_BINDADDR"},
		"bind address not ASCII": {env: server.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "plain-é"}), want: "ENV-ERROR TOR_PT_SERVER_BINDADDR"},
		"bind address, lines":    {env: server.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": "plain-1\nSMETHODS DONE"}), want: "ENV-ERROR TOR_PT_SERVER_BINDADDR"},
		"options":                {env: server.With(ptproc.Variables{"TOR_PT_SERVER_TRANSPORT_OPTIONS": "plain:key"}), want: "ENV-ERROR TOR_PT_SERVER_TRANSPORT_OPTIONS"},
		"options not ASCII":      {env: server.With(ptproc.Variables{"TOR_PT_SERVER_TRANSPORT_OPTIONS": "plain:é"}), want: "ENV-ERROR a variable of tor's is malformed: "},
		"no ORPort":              {env: server.Without("TOR_PT_ORPORT"), want: "ENV-ERROR need TOR_PT_ORPORT"},
		"ORPort":                 {env: server.With(ptproc.Variables{"TOR_PT_ORPORT": "9001"}), want: "ENV-ERROR cannot resolve TOR_PT_ORPORT"},
		"ORPort not ASCII":       {env: server.With(ptproc.Variables{"TOR_PT_ORPORT": "127.0.0.1:９００１"}), want: "ENV-ERROR TOR_PT_ORPORT"},
		"ExtORPort, no cookie":   {env: server.With(ptproc.Variables{"TOR_PT_EXTENDED_SERVER_PORT": "127.0.0.1:9002"}), want: "ENV-ERROR need TOR_PT_AUTH_COOKIE_FILE"},
		"ExtORPort": {
			env: server.With(ptproc.Variables{"TOR_PT_EXTENDED_SERVER_PORT": "x", "TOR_PT_AUTH_COOKIE_FILE": file}), want: "ENV-ERROR cannot resolve TOR_PT_EXTENDED_SERVER_PORT",
		},
		"proxy, no URL":          {env: client.With(ptproc.Variables{"TOR_PT_PROXY": "127.0.0.1:1080"}), want: "PROXY-ERROR TOR_PT_PROXY: "},
		"proxy, unknown kind":    {env: client.With(ptproc.Variables{"TOR_PT_PROXY": "socks4://127.0.0.1:1080"}), want: "PROXY-ERROR TOR_PT_PROXY: "},
		"proxy, no port":         {env: client.With(ptproc.Variables{"TOR_PT_PROXY": "http://é@127.0.0.1"}), want: "PROXY-ERROR TOR_PT_PROXY: "},
		"source address":         {env: client.With(ptproc.Variables{"TOR_PT_OUTBOUND_BIND_ADDRESS_V4": "::1"}), want: "ENV-ERROR TOR_PT_OUTBOUND_BIND_ADDRESS_V4: "},
		"server, source address": {env: server.With(ptproc.Variables{"TOR_PT_OUTBOUND_BIND_ADDRESS_V6": "2001:db8::1"}), want: "ENV-ERROR TOR_PT_OUTBOUND_BIND_ADDRESS_V6: "},
		"unknown flag":           {env: client, args: []string{"-colour"}, want: "ENV-ERROR the plugin's command line: "},
		"help":                   {env: client, args: []string{"-h"}, want: "ENV-ERROR the plugin's command line: "},
		"flag in several lines":  {env: client, args: []string{"-a\nCMETHODS DONE"}, want: "ENV-ERROR the plugin's command line: "},
		"flag that is not ASCII": {env: server, args: []string{"-é\xff"}, want: "ENV-ERROR the plugin's command line: "},
		"subcommand":             {env: client, args: []string{"version"}, want: "ENV-ERROR the plugin's command line: "},
		"module without file":    {env: client, args: []string{"-module", "x"}, want: "ENV-ERROR the plugin's command line: "},
		"time to drain":          {env: client, args: []string{"-drain", "5"}, want: "ENV-ERROR the plugin's command line: "},
		"log level":              {env: client, args: []string{"-log-level", "loud"}, want: "ENV-ERROR the plugin's command line: "},
	} {
		t.Run(name, func(t *testing.T) {
			p := run(t, test.env, test.args...)
			p.checkOutput()
			if p.Status() <= 0 {
				t.Errorf("it ended with %v, want an exit status that is not 0", p.Cmd.ProcessState)
			}
			var errors []string
			for _, line := range p.Stdout.All() {
				if strings.Contains(line, "-ERROR") {
					errors = append(errors, line)
				}
				if strings.Contains(line, "METHOD") && !strings.Contains(line, "-ERROR") {
					t.Errorf("it went on to say %q", line)
				}
			}
			if len(errors) != 1 || !strings.HasPrefix(errors[0], test.want) {
				t.Errorf("it said %q, want one line that begins with %q", errors, test.want)
			}
		})
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "x" {
		t.Errorf("the file in the way is now %q, %v", text, err)
	}
}

// The version is one of several that tor may offer, and is said first of all but
// what the specification lets a proxy say at any time.
func TestPTSpec_3_2_1_Versions(t *testing.T) {
	for _, list := range []string{"1", "3,1,2", "1,1a,2b,this_is_a_valid_ver", "!,~,1", "1,1"} {
		p := launch(t, clientVariables("unknown").With(ptproc.Variables{"TOR_PT_MANAGED_TRANSPORT_VER": list}))
		if said := strings.Join(p.ready(), "; "); said != "VERSION 1; CMETHODS DONE" {
			t.Errorf("offered %s it said %q", list, said)
		}
		p.Line(`^STATUS TYPE=version IMPLEMENTATION="waterproxy" VERSION="` + program.Version + `"$`)
	}
}

// The state directory is made if it is missing, for its user alone, and compiled
// modules go in there and nowhere else.
func TestPTSpec_3_2_1_State(t *testing.T) {
	for name, env := range map[string]ptproc.Variables{
		"client": clientVariables("t"),
		"server": serverVariables("t", "127.0.0.1:1"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "deep", "é state")
			env := env.With(ptproc.Variables{"TOR_PT_STATE_LOCATION": dir + "/"})
			p := launch(t, env, module("t", "posix_v1")...)
			p.Address("t")
			for _, path := range []string{dir, filepath.Join(dir, "compiled")} {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm() != 0o700 {
					t.Errorf("%s has mode %v, want -rwx------", path, info.Mode())
				}
			}
			compiled := filepath.Join(dir, "compiled") // what else is there may be written anew
			before := files(t, compiled)
			if len(before) == 0 {
				t.Error("no compiled module was kept")
			}
			if left := files(t, p.Cmd.Dir); len(left) > 0 {
				t.Errorf("files were made in the working directory: %q", left)
			}
			// A second process finds what the first one made.
			launch(t, env, module("t", "posix_v1")...).Address("t")
			for file, made := range files(t, compiled) {
				if !before[file].Equal(made) {
					t.Errorf("%s was compiled a second time", file)
				}
			}
		})
	}
}

// A module that may keep state finds it again in the next process; nobody else can
// look into it.
func TestModuleState(t *testing.T) {
	env := serverVariables("kept", "127.0.0.1:1")
	flags := append(module("kept", argtest), "-module-state", "kept")
	published := func() string {
		p := launch(t, env, flags...)
		return p.Line(`^SMETHOD kept 127\.0\.0\.1:\d+ ARGS:key=([0-9a-f]{16})$`)[1]
	}
	first := published()
	if again := published(); again != first {
		t.Errorf("the module's key was %s and is %s", first, again)
	}
	dir := filepath.Join(stateDir, "modules", "kept")
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeDir|0o700 {
		t.Errorf("the module's directory has mode %v, want drwx------", info.Mode())
	}
	if kept := files(t, dir); len(kept) != 1 {
		t.Errorf("it has the files %v, want one", kept)
	}

	// Without a place for it, it is an error for that transport alone.
	flags = append(flags, module("other", "plain_v1")...)
	for keyword, env := range map[string]ptproc.Variables{
		"CMETHOD": clientVariables("kept,other"),
		"SMETHOD": serverVariables("kept,other", "127.0.0.1:1"),
	} {
		p := launch(t, env.Without("TOR_PT_STATE_LOCATION"), flags...)
		p.Address("other")
		p.Line(`^` + keyword + `-ERROR kept .*TOR_PT_STATE_LOCATION`)
	}
}

// files returns the files below a directory with the times at which they were
// last written.
func files(t *testing.T, dir string) map[string]time.Time {
	t.Helper()
	all := map[string]time.Time{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		all[path] = info.ModTime()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Without a state directory everything works but that nothing is kept.
func TestNoState(t *testing.T) {
	p := launch(t, clientVariables("t").Without("TOR_PT_STATE_LOCATION"), module("t", "plain_v1")...)
	echoThrough(t, p.Address("t"))
	if left := files(t, p.Cmd.Dir); len(left) > 0 {
		t.Errorf("files were made in the working directory: %q", left)
	}
}

// echoThrough shows that a client's transport carries bytes. The module must be
// a passthrough.
func echoThrough(t *testing.T, proxy string) {
	t.Helper()
	l := pttest.Listen(t)
	pttest.Echo(t, pttest.Connect(t, proxy, l.Addr().String()), pttest.Accept(t, l))
}
