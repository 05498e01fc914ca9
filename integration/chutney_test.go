package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// chutneyTemplates stand in for chutney's own, of which ours make use.
var chutneyTemplates = map[string]string{
	"authority.tmpl":       "ORPort 127.0.0.1:${orport}\n",
	"bridgeauthority.tmpl": "ORPort 127.0.0.1:${orport}\n",
	"relay.tmpl":           "ORPort 127.0.0.1:${orport}\nExitRelay 1\n",
	"bridge.tmpl":          "SocksPort 0\nORPort 127.0.0.1:$orport\nBridgeRelay 1\n",
	"bridgeclient.tmpl":    "UseBridges 1\n${bridges}\n",
}

// TestChutneyDefinition has something in the place of chutney, which a test cannot fetch:
// our network expands to torrcs that tor accepts, chutney is told what it has to be in
// the right order, and its verdict is ours.
func TestChutneyDefinition(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	tor := program(t, "tor")
	program(t, "python3")
	for _, row := range []struct {
		transport string
		status    int
	}{{"shadowsocks", 0}, {"shadowsocks", 3}, {"webtunnel", 0}} {
		transport, status := row.transport, row.status
		t.Run(fmt.Sprintf("%s, %d", transport, status), func(t *testing.T) {
			top := t.TempDir()
			fake, err := os.ReadFile(filepath.Join("chutney", "testdata", "chutney"))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(top, "chutney"), string(fake))
			for file, text := range chutneyTemplates {
				write(t, filepath.Join(top, "torrc_templates", file), text)
			}
			cmd := exec.CommandContext(ctx, filepath.Join("chutney", "run"), top, transport)
			cmd.Env = append(os.Environ(), "WATERPROXY="+waterproxy(t), "VERIFY_STATUS="+string(rune('0'+status)))
			text, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if status == 0 && err != nil || status != 0 && (!errors.As(err, &exit) || exit.ExitCode() != status) {
				t.Errorf("it ended with %v, want %d:\n%s", err, status, text)
			}
			calls, err := os.ReadFile(filepath.Join(top, "calls"))
			if err != nil {
				t.Fatal(err)
			}
			const want = "configure 1 0, start 1 0, wait_for_bootstrap 1 0, configure 2 0, start 2 0, wait_for_bootstrap 2 0, verify 2 0, stop 2 0"
			if got := strings.Join(strings.Split(strings.TrimSpace(string(calls)), "\n"), ", "); got != want {
				t.Errorf("chutney was asked for %s, want %s", got, want)
			}
			torrcs, err := filepath.Glob(filepath.Join(top, "*", "torrc"))
			if err != nil || len(torrcs) != 10 {
				t.Fatalf("torrcs %q, %v", torrcs, err)
			}
			for _, torrc := range torrcs {
				cmd := exec.CommandContext(ctx, tor, "--verify-config", "--defaults-torrc", "/dev/null", "-f", torrc)
				if text, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("tor refuses %s: %v\n%s", torrc, err, text)
				}
			}
			client, err := os.ReadFile(filepath.Join(top, "009bc", "torrc"))
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range []string{
				`(?m)^Bridge ` + transport + ` 127\.0\.0\.1:6008 0{40} key=value mode=0$`,
				`(?m)^ClientTransportPlugin ` + transport + ` exec /\S+/waterproxy -module-state ` + transport + `$`,
			} {
				if !regexp.MustCompile(line).Match(client) {
					t.Errorf("the client's torrc has no line %s:\n%s", line, client)
				}
			}
			bridge, err := os.ReadFile(filepath.Join(top, "008br", "torrc"))
			if err != nil {
				t.Fatal(err)
			}
			options := regexp.MustCompile(`(?m)^ServerTransportOptions webtunnel url=http://127\.0\.0\.1:6008/secret$`)
			if options.Match(bridge) != (transport == "webtunnel") {
				t.Errorf("the bridge's torrc has\n%s", bridge)
			}
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestChutneyMissing: without a checkout it says what is missing.
func TestChutneyMissing(t *testing.T) {
	for _, args := range [][]string{nil, {""}, {t.TempDir()}} {
		text, err := exec.CommandContext(testContext(t), filepath.Join("chutney", "run"), args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(text), "CHUTNEY_PATH") {
			t.Errorf("%q: %v: %s", args, err, text)
		}
	}
}
