package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"waterproxy/internal/tornet"
)

// demoVariable marks the processes of one demonstration.
const demoVariable = "WATERPROXY_TEST_DEMO"

// demonstration is a run of the executable's subcommand demo.
type demonstration struct {
	cmd       *exec.Cmd
	temporary string
	ended     chan error

	mu     sync.Mutex
	output bytes.Buffer
}

// startDemo starts the subcommand with a folder for temporary files of its own.
func startDemo(ctx context.Context, t *testing.T, args ...string) *demonstration {
	t.Helper()
	// A test's own temporary folder may be too long for a Unix socket.
	temporary, err := os.MkdirTemp("", "demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(temporary); err != nil {
			t.Error(err)
		}
	})
	d := &demonstration{temporary: temporary, ended: make(chan error, 1)}
	d.cmd = exec.CommandContext(ctx, waterproxy(t), append([]string{"demo"}, args...)...)
	d.cmd.Env = append(os.Environ(), demoVariable+"="+temporary, "TMPDIR="+temporary)
	d.cmd.Stdout, d.cmd.Stderr = d, d
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.ended <- d.cmd.Wait() }()
	return d
}

func (d *demonstration) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.Write(p)
}

func (d *demonstration) said() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.String()
}

// waitFor waits until the output matches, and returns the submatches.
func (d *demonstration) waitFor(ctx context.Context, t *testing.T, pattern string) []string {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	for {
		if match := expression.FindStringSubmatch(d.said()); match != nil {
			return match
		}
		select {
		case err := <-d.ended:
			t.Fatalf("it ended (%v) before it said %q:\n%s", err, pattern, d.said())
		case <-ctx.Done():
			t.Fatalf("%v; it did not say %q:\n%s", context.Cause(ctx), pattern, d.said())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// interrupt does what Ctrl-C does.
func (d *demonstration) interrupt(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
}

// wait waits for the end and checks that no process and no file is left.
func (d *demonstration) wait(t *testing.T) error {
	t.Helper()
	err := <-d.ended
	processes, scan := tornet.ProcessesWith(demoVariable, d.temporary)
	if scan != nil {
		t.Error(scan)
	}
	if len(processes) > 0 {
		t.Errorf("processes were left: %v", processes)
	}
	files, scan := os.ReadDir(d.temporary)
	if scan != nil {
		t.Error(scan)
	}
	if len(files) > 0 {
		t.Errorf("files were left: %v", files)
	}
	return err
}

// TestDemo runs the demonstration with tor, and keeps it to use its SOCKS proxy.
func TestDemo(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	d := startDemo(ctx, t, "--keep")
	address := d.waitFor(ctx, t, `SOCKS proxy: (\S+)`)[1]
	d.checkTable(t, "plain")
	if processes, err := tornet.ProcessesWith(demoVariable, d.temporary); err != nil || len(processes) != 7 {
		t.Errorf("it consists of %v (%v), want itself, 4 tors and 2 transports", processes, err)
	}
	client, err := tornet.SOCKSClient(address)
	if err != nil {
		t.Fatal(err)
	}
	web := startWeb(t, 1<<20)
	if err := web.Download(ctx, client, nil); err != nil {
		t.Errorf("through the SOCKS proxy that it names: %v", err)
	}
	client.CloseIdleConnections()
	d.interrupt(t)
	if err := d.wait(t); err != nil {
		t.Errorf("it ended with %v:\n%s", err, d.said())
	}
}

// TestDemoNoTor runs the demonstration without tor.
func TestDemoNoTor(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"plain", "reverse", "mux"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			d := startDemo(testContext(t), t, "--no-tor", "--transport", transport)
			if err := d.wait(t); err != nil {
				t.Fatalf("it ended with %v:\n%s", err, d.said())
			}
			d.checkTable(t, transport)
		})
	}
}

// TestDemoUpdate has the demonstration replace its module while it fetches.
func TestDemoUpdate(t *testing.T) {
	t.Parallel()
	small := builtFile(t, filepath.Join("..", "transport", "testmodules", "built", "posix_v1.wasm"))
	for name, args := range map[string][]string{"tor": {"--module", "posix=" + small}, "no tor": {"--no-tor"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDemo(testContext(t), t, append(args, "--update")...)
			if err := d.wait(t); err != nil {
				t.Fatalf("it ended with %v:\n%s", err, d.said())
			}
			for _, row := range []string{
				`transport +ferry`,
				`version 1\.0 +[0-9a-f]{64}`,
				`version 2\.0 +[0-9a-f]{64}`,
				`in use at both ends +\d+\.\d\d s after the second signature`,
				`fetched over 1\.0 +16777216 bytes, SHA-256 [0-9a-f]{64} as served`,
				`of that afterwards +[1-9]\d* bytes`,
				`fetched over 2\.0 +16777216 bytes, SHA-256 [0-9a-f]{64} as served`,
				`network to module +3[3-6]\d{6} bytes`,
			} {
				if !regexp.MustCompile(`(?m)^` + row + `$`).MatchString(d.said()) {
					t.Errorf("the output has no row %q:\n%s", row, d.said())
				}
			}
		})
	}
}

// TestDemoInterrupted interrupts the demonstration while it starts.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"directory authority", "consensus", "bridge", "client"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			d := startDemo(ctx, t)
			d.waitFor(ctx, t, regexp.QuoteMeta(at))
			begin := time.Now()
			d.interrupt(t)
			if err := d.wait(t); err == nil {
				t.Error("it ended as if it had done its work")
			}
			if took := time.Since(begin); took > exitTime {
				t.Errorf("it took %v to end", took)
			}
		})
	}
}

// checkTable checks the table at the end.
func (d *demonstration) checkTable(t *testing.T, transport string) {
	t.Helper()
	module, err := os.ReadFile(builtFile(t, filepath.Join("..", "modules", "built", transport+".wasm")))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		`transport +` + transport,
		fmt.Sprintf(`module's SHA-256 +%x`, sha256.Sum256(module)),
		`fetched +16777216 bytes, SHA-256 [0-9a-f]{64} as served`,
		`module to network +\d+ bytes`,
		`network to module +1[678]\d{6} bytes`,
		`time of the fetch +\d+\.\d\d s`,
		`speed of the fetch +\d+\.\d MB/s`,
	} {
		if !regexp.MustCompile(`(?m)^` + row + `$`).MatchString(d.said()) {
			t.Errorf("the output has no row %q:\n%s", row, d.said())
		}
	}
	if strings.Contains(d.said(), "\x1b") {
		t.Error("the output has escape sequences although it is not a terminal")
	}
}
