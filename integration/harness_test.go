package integration

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

	"waterproxy/internal/tornet"
)

// The tests in this file are about the private network itself: that it leaves
// nothing behind, however it ends, and that it says why it does not start.

// harnessVariable makes the test's own binary start a network in the folder that
// it names and then wait to be killed.
const harnessVariable = "TORNET_TEST_HARNESS"

// obfs4 is the plugin that is used where any will do.
func obfs4() ([]tornet.Plugin, error) {
	path, err := tornet.LookUp("obfs4proxy")
	return []tornet.Plugin{{Transports: []string{"obfs4"}, Exec: []string{path}}}, err
}

func runHarness(dir string) (exitStatus int) {
	if err := startHarness(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	select {}
}

// startHarness starts a whole network and writes a line when it is there.
func startHarness(dir string) error {
	ctx := context.Background()
	plugins, err := obfs4()
	if err != nil {
		return err
	}
	core, err := tornet.StartCore(ctx, dir, tornet.CoreOptions{})
	if err != nil {
		return err
	}
	bridge, err := core.StartBridge(ctx, tornet.BridgeOptions{Plugins: plugins})
	if err == nil {
		_, err = core.StartClient(ctx, tornet.ClientOptions{Plugins: plugins, BridgeLines: bridge.Lines()})
	}
	if err == nil {
		_, err = fmt.Println("ready")
	}
	if err != nil {
		return errors.Join(err, core.Close())
	}
	return nil
}

// TestHarnessKilled kills the process that runs a network: nothing of the
// network may be left.
func TestHarnessKilled(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), harnessVariable+"="+dir)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = bufio.NewReader(stdout).ReadString('\n')
	processes := networkProcesses(t, dir)
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if killed := cmd.Wait(); err != nil {
		t.Fatalf("the harness did not start: %v; %v", err, killed)
	}
	if len(processes) != 6 {
		t.Errorf("%d processes ran, want 4 tors and 2 transports: %v", len(processes), processes)
	}
	ctx, cancel := context.WithTimeout(ctx, exitTime)
	defer cancel()
	for len(networkProcesses(t, dir)) > 0 {
		if ctx.Err() != nil {
			t.Fatalf("left %v after the harness: %v", exitTime, networkProcesses(t, dir))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func networkProcesses(t *testing.T, dir string) []tornet.Process {
	t.Helper()
	processes, err := tornet.Processes(dir)
	if err != nil {
		t.Fatal(err)
	}
	return processes
}

// giveUp is a context that ends when a stage gets to a percentage.
type giveUp struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	at     time.Time
}

var errGaveUp = errors.New("gave up")

func newGiveUp(t *testing.T) *giveUp {
	g := &giveUp{}
	g.ctx, g.cancel = context.WithCancelCause(testContext(t))
	t.Cleanup(func() { g.cancel(nil) })
	return g
}

// when returns a progress function that ends the context.
func (g *giveUp) when(stage string, percent int) tornet.Progress {
	return func(s string, p int) {
		if s == stage && p >= percent && g.at.IsZero() {
			g.at = time.Now()
			g.cancel(errGaveUp)
		}
	}
}

// check checks what a Start function did when its context ended.
func (g *giveUp) check(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, errGaveUp) {
		t.Errorf("got %v, want %v", err, errGaveUp)
	}
	if took := time.Since(g.at); took > exitTime {
		t.Errorf("it went on for %v", took)
	}
}

// TestGiveUp ends the context in every stage of a start: the start must end soon
// and leave nothing running.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	for _, at := range []struct {
		stage   string
		percent int
	}{{tornet.StageAuthority, 0}, {tornet.StageAuthority, 80}, {tornet.StageConsensus, 20}} {
		t.Run(fmt.Sprint(at.stage, at.percent), func(t *testing.T) {
			g := newGiveUp(t)
			dir := t.TempDir()
			_, err := tornet.StartCore(g.ctx, dir, tornet.CoreOptions{Progress: g.when(at.stage, at.percent)})
			g.check(t, err)
			if left := networkProcesses(t, dir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
	// A core of its own, whose processes are those of this test.
	ctx := testContext(t)
	core, err := tornet.StartCore(ctx, t.TempDir(), tornet.CoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, "the core", core.Close)
	plugins, err := obfs4()
	if err != nil {
		t.Fatal(err)
	}
	bridge, err := core.StartBridge(ctx, tornet.BridgeOptions{Plugins: plugins})
	if err != nil {
		t.Fatal(err)
	}
	for _, percent := range []int{0, 50} {
		t.Run(fmt.Sprint(tornet.StageBridge, percent), func(t *testing.T) {
			g := newGiveUp(t)
			before := len(networkProcesses(t, core.Dir()))
			_, err := core.StartBridge(g.ctx, tornet.BridgeOptions{
				Plugins: plugins, Progress: g.when(tornet.StageBridge, percent),
			})
			g.check(t, err)
			if now := networkProcesses(t, core.Dir()); len(now) != before {
				t.Errorf("there were %d processes, now: %v", before, now)
			}
		})
		t.Run(fmt.Sprint(tornet.StageClient, percent), func(t *testing.T) {
			g := newGiveUp(t)
			before := len(networkProcesses(t, core.Dir()))
			_, err := core.StartClient(g.ctx, tornet.ClientOptions{
				Plugins: plugins, BridgeLines: bridge.Lines(), Progress: g.when(tornet.StageClient, percent),
			})
			g.check(t, err)
			if now := networkProcesses(t, core.Dir()); len(now) != before {
				t.Errorf("there were %d processes, now: %v", before, now)
			}
		})
	}
}

// TestStartFails starts clients that tor refuses: the error must say why, and a
// port that is in use must be told from other reasons, for then another port is
// tried.
func TestStartFails(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ctx := testContext(t)
	core := startedCore(ctx, t)
	for _, test := range []struct {
		name, line, want string
		portTaken        bool
	}{
		{"port", "SocksPort " + taken.Addr().String(), "Address already in use", true},
		{"torrc", "NoSuchOption 1", "NoSuchOption", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := core.StartClient(ctx, tornet.ClientOptions{
				BridgeLines: []string{"Bridge 127.0.0.1:1"},
				Torrc:       []string{test.line},
			})
			var explained *tornet.NodeError
			if !errors.As(err, &explained) || !strings.Contains(explained.Tail, test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if errors.Is(err, tornet.ErrPortTaken) != test.portTaken {
				t.Errorf("a port that is taken: got %v", err)
			}
		})
	}
}

// TestTransportFails starts bridges whose transport is of no use: that must be
// noticed at once.
func TestTransportFails(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	core := startedCore(ctx, t)
	for _, test := range []struct{ program, transport, want string }{
		{"/bin/false", "any", "status code 1"},
		{program(t, "obfs4proxy"), "nonsense", "didn't launch any"},
		{"/no/such/program", "any", "/no/such/program"},
	} {
		t.Run(test.transport+" in "+test.program, func(t *testing.T) {
			_, err := core.StartBridge(ctx, tornet.BridgeOptions{
				Plugins: []tornet.Plugin{{Transports: []string{test.transport}, Exec: []string{test.program}}},
			})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "not ready after") {
				t.Errorf("got %v, want an error with %q, and before the time is up", err, test.want)
			}
		})
	}
}

// TestCloseCore closes a core twice and asks it for more afterwards.
func TestCloseCore(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	core, err := tornet.StartCore(ctx, t.TempDir(), tornet.CoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := core.Close(); err != nil {
			t.Error(err)
		}
	}
	plugins, err := obfs4()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := core.StartBridge(ctx, tornet.BridgeOptions{Plugins: plugins}); !errors.Is(err, tornet.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if left := networkProcesses(t, core.Dir()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestCloseHangingTor closes a bridge whose tor does not end when it is told to:
// it must be killed, and its transport must be gone all the same.
func TestCloseHangingTor(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	plugins, err := obfs4()
	if err != nil {
		t.Fatal(err)
	}
	bridge := startBridge(ctx, t, tornet.BridgeOptions{Plugins: plugins})
	if err := bridge.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := bridge.Close(); err != nil {
		t.Error(err)
	}
	if left := networkProcesses(t, bridge.Dir()); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
