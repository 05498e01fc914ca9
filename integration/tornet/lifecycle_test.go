package tornet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests in this file start real tors, with the real obfs4proxy between them.

// harnessVariable makes the test's own binary start a network in the folder that
// it names and then wait.
const harnessVariable = "TORNET_TEST_HARNESS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(harnessVariable); dir != "" {
		if err := harness(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		select {} // until it is killed
	}
	os.Exit(m.Run())
}

// harness starts a whole network and says so.
func harness(dir string) error {
	ctx := context.Background()
	core, err := StartCore(ctx, dir, CoreOptions{})
	if err != nil {
		return err
	}
	if _, _, err := startObfs4(ctx, core, nil); err != nil {
		return errors.Join(err, core.Close())
	}
	_, err = fmt.Println(core.id)
	return err
}

func startObfs4(ctx context.Context, core *Core, progress Progress) (*Bridge, *Client, error) {
	path, err := LookUp("obfs4proxy")
	if err != nil {
		return nil, nil, err
	}
	plugins := []Plugin{{Transports: []string{"obfs4"}, Exec: []string{path}}}
	bridge, err := core.StartBridge(ctx, BridgeOptions{Plugins: plugins, Progress: progress})
	if err != nil {
		return nil, nil, err
	}
	client, err := core.StartClient(ctx, ClientOptions{
		Plugins: plugins, BridgeLines: bridge.Lines(), Progress: progress,
	})
	return bridge, client, err
}

// nodeProcesses returns all processes of a core, however they are parented.
func nodeProcesses(t *testing.T, id string, names ...string) []Process {
	t.Helper()
	var all []Process
	for _, name := range names {
		processes, err := markedProcesses(id + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, processes...)
	}
	return all
}

var allNames = []string{"authority-1", "exit-1", "bridge-1", "client-1"}

// TestHarnessKilled kills the process that runs a network: nothing of the
// network may be left.
func TestHarnessKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), harnessVariable+"="+t.TempDir())
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := StartTied(cmd); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the harness did not start: %v; %v", err, cmd.Wait())
	}
	id := strings.TrimSpace(line)
	if got := len(nodeProcesses(t, id, allNames...)); got != 6 {
		t.Errorf("%d processes run, want 4 tors and 2 transports", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the harness was not killed")
	}
	deadline := time.Now().Add(2 * time.Second)
	for {
		left := nodeProcesses(t, id, allNames...)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left after 2 s: %v", left)
			for _, p := range left {
				if err := p.kill(); err != nil {
					t.Error(err)
				}
			}
			return
		}
		time.Sleep(pollInterval)
	}
}

// TestCancelled ends the context in every stage of a start: the start must end
// soon, with the context's cause, and leave nothing running.
func TestCancelled(t *testing.T) {
	for _, at := range []struct {
		stage   string
		percent int
	}{
		{StageAuthority, 0}, {StageAuthority, 80}, {StageConsensus, 20},
		{StageBridge, 0}, {StageBridge, 50}, {StageClient, 0}, {StageClient, 50},
	} {
		t.Run(fmt.Sprintf("%s %d%%", at.stage, at.percent), func(t *testing.T) {
			interrupted := errors.New("interrupted")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var cancelled time.Time
			progress := func(stage string, percent int) {
				if stage == at.stage && percent >= at.percent && cancelled.IsZero() {
					cancelled = time.Now()
					cancel(interrupted)
				}
			}
			core, err := StartCore(ctx, t.TempDir(), CoreOptions{Progress: progress})
			if err == nil {
				_, _, err = startObfs4(ctx, core, progress)
				defer func() {
					if err := core.Close(); err != nil {
						t.Error(err)
					}
					if left := nodeProcesses(t, core.id, allNames...); len(left) > 0 {
						t.Errorf("left: %v", left)
					}
				}()
			}
			if took := time.Since(cancelled); took > time.Second {
				t.Errorf("it went on for %v", took)
			}
			if !errors.Is(err, interrupted) {
				t.Errorf("got %v, want %v", err, interrupted)
			}
			children, err := childProcesses(os.Getpid())
			if err != nil {
				t.Fatal(err)
			}
			for _, child := range children {
				if core == nil || !strings.Contains(child.Command, core.dir) {
					t.Errorf("left: %v", child)
				}
			}
		})
	}
}

// TestPortTaken starts a relay on a port that is in use: that must be told from
// other failures, for then another port is tried.
func TestPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	programs, err := FindPrograms()
	if err != nil {
		t.Fatal(err)
	}
	core := &Core{dir: t.TempDir(), id: t.Name(), programs: programs, counts: make(map[string]int)}
	for port, want := range map[string]bool{taken.Addr().String(): true, "nonsense": false} {
		node, err := core.add("relay", nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := append(node.commonLines("DirAuthority x 127.0.0.1:1 "+strings.Repeat("f", 40)), "SocksPort "+port)
		if err := node.writeTorrc(lines); err != nil {
			t.Fatal(err)
		}
		node.ready = func(ctx context.Context) error {
			return node.follow(ctx, noticeLog, func(string) (bool, error) { return false, nil })
		}
		err = node.start(t.Context())
		var explained *NodeError
		if !errors.As(err, &explained) || !errors.Is(err, errExited) || errors.Is(err, errPortTaken) != want {
			t.Errorf("%s: got %v", port, err)
		} else if !strings.Contains(explained.Tail, "[warn]") {
			t.Errorf("%s: the error does not say why: %v", port, err)
		}
	}
	if err := core.Close(); err != nil {
		t.Error(err)
	}
}

// TestClosedCore asks a core for more after its Close, and closes it twice.
func TestClosedCore(t *testing.T) {
	core, err := StartCore(t.Context(), t.TempDir(), CoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := core.authority.Kill(t.Context(), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := core.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := startObfs4(t.Context(), core, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if err := core.exit.Restart(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}
