//go:build linux

package self

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"waterproxy/internal/program"
	"waterproxy/internal/pttest"
	"waterproxy/internal/walls"
)

// surroundings are walls.Surroundings, which only builds for this test have.
type surroundings struct {
	Secret, Home, State, Socket, Abstract string
	Port, Granted, Victim                 int
}

// attempt is a line that the program prints.
type attempt struct {
	granted, got bool
	err          string
}

// escape runs a program in which code of ours, inside the process of a server, tries what
// code that has left the sandbox would.
func escape(t *testing.T, executable string, flags ...string) map[string]attempt {
	t.Helper()
	dir := t.TempDir()
	s := surroundings{
		Secret: filepath.Join(dir, "home", "secret"), Home: filepath.Join(dir, "home"), State: filepath.Join(dir, "state"),
		Socket: filepath.Join(dir, "socket"), Abstract: "waterproxy-test-" + filepath.Base(dir) + fmt.Sprint(os.Getpid()),
		Port: listenAt(t, "tcp", "127.0.0.1:0").(*net.TCPAddr).Port, Granted: listenAt(t, "tcp", "127.0.0.1:0").(*net.TCPAddr).Port,
	}
	listenAt(t, "unix", s.Socket)
	listenAt(t, "unix", "@"+s.Abstract)
	if err := os.Mkdir(s.Home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Secret, []byte("a secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	victim := exec.Command("cat")
	stdin, err := victim.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { stdin.Close(); victim.Wait() }()
	s.Victim = victim.Process.Pid
	around, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"escape", "-state", s.State, "-forward", fmt.Sprintf("127.0.0.1:%d", s.Granted), "-surroundings", string(around)}, flags...)
	cmd := exec.CommandContext(t.Context(), executable, args...)
	cmd.Env = []string{"HOME=" + s.Home}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	all := map[string]attempt{}
	for scan := bufio.NewScanner(bytes.NewReader(out)); scan.Scan(); {
		if words := strings.Split(scan.Text(), "\t"); words[0] == "attempt" && len(words) == 5 {
			all[words[1]] = attempt{words[2] == "true", words[3] == "true", words[4]}
		}
	}
	return all
}

// listenAt listens until the test ends, and accepts nothing: the system answers.
func listenAt(t *testing.T, network, address string) net.Addr {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr()
}

// TestWalls: what has left the sandbox finds the state directory, and the port that
// connections go to, and nothing else. Without the walls it would find much.
func TestWalls(t *testing.T) {
	if missing := walls.Available().Missing(); missing != "" {
		t.Skipf("this kernel cannot show it: it has no wall for %s", missing)
	}
	executable := filepath.Join(t.TempDir(), "waterproxy-escape")
	if err := buildProgram(executable, "-tags", "escape"); err != nil {
		t.Fatal(err)
	}
	const wanted = 30
	tries := escape(t, executable)
	denied := 0
	for name, a := range tries {
		if a.got != a.granted {
			t.Errorf("%s: got it: %t, granted: %t (%s)", name, a.got, a.granted, a.err)
		}
		if !a.got {
			denied++
		}
	}
	if denied < wanted {
		t.Errorf("%d attempts were denied, want at least %d", denied, wanted)
	}
	got := 0
	for name, a := range escape(t, executable, "-walls=off") {
		if a.got && !a.granted {
			got++
		}
		if a.granted && !a.got {
			t.Errorf("%s, without walls: %s", name, a.err)
		}
	}
	t.Logf("with the walls %d of %d attempts are denied; without them %d that are not granted succeed", denied, len(tries), got)
	if got < wanted/2 {
		t.Errorf("without walls %d attempts succeed: the attempts show nothing", got)
	}
}

// TestWallsFlag: the flag takes on and off alone.
func TestWallsFlag(t *testing.T) {
	p := start(t, nil, "server", "-walls=maybe", "-transport", "plain", "-listen", "127.0.0.1:0", "-forward", "127.0.0.1:1")
	p.ErrorLine(`-walls: "maybe" is neither on nor off`)
	p.Wait(pttest.EndLimit)
	p.CheckStatus(program.ExitUsage)
}
