package tornet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"waterproxy/internal/ptproc"
)

// certificateMonths is how long the authority's signing key is valid; 12 is the
// most that tor-gencert allows.
const certificateMonths = "12"

// certificateFile is the authority's certificate in its DataDirectory.
var certificateFile = filepath.Join("keys", "authority_certificate")

// authorityKeys are the two fingerprints that a DirAuthority line names.
type authorityKeys struct {
	v3Identity string // of the key that signs the consensus
	relay      string // of the relay's RSA identity
}

// makeAuthorityKeys makes the keys of the authority in its DataDirectory.
func (n *Node) makeAuthorityKeys(ctx context.Context, gencert string, dirPort int) (authorityKeys, error) {
	keys := filepath.Join(n.dir, "keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		return authorityKeys{}, err
	}
	certificate := n.path(certificateFile)
	_, err := runTied(ctx, exec.Command(gencert, "--create-identity-key",
		"--passphrase-fd", "0", // standard input is empty, and so is the passphrase
		"-m", certificateMonths,
		"-a", fmt.Sprintf("127.0.0.1:%d", dirPort),
		"-i", filepath.Join(keys, "authority_identity_key"),
		"-s", filepath.Join(keys, "authority_signing_key"),
		"-c", certificate))
	if err != nil {
		return authorityKeys{}, err
	}
	text, err := os.ReadFile(certificate)
	if err != nil {
		return authorityKeys{}, err
	}
	v3Identity, err := certificateFingerprint(text)
	if err != nil {
		return authorityKeys{}, err
	}
	relay, err := n.makeRelayKey(ctx)
	return authorityKeys{v3Identity: v3Identity, relay: relay}, err
}

// certificateFingerprint finds the fingerprint line of a key certificate.
func certificateFingerprint(certificate []byte) (string, error) {
	lines := bufio.NewScanner(bytes.NewReader(certificate))
	for lines.Scan() {
		if fingerprint, ok := strings.CutPrefix(lines.Text(), "fingerprint "); ok {
			return fingerprint, nil
		}
	}
	return "", errors.Join(errors.New("the authority's certificate has no fingerprint"), lines.Err())
}

var relayFingerprint = regexp.MustCompile(`(?m)^\S+ ([0-9A-F ]{40,50})$`)

// makeRelayKey makes the relay identity in the DataDirectory and returns its
// fingerprint.
func (n *Node) makeRelayKey(ctx context.Context) (string, error) {
	// tor insists on an authority and a port, but uses neither here.
	empty := n.path("torrc.keys")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		return "", err
	}
	output, err := runTied(ctx, exec.Command(n.tor, "-f", empty, "--defaults-torrc", os.DevNull, "--quiet",
		"--list-fingerprint", "--orport", "1",
		"--dirserver", "x 127.0.0.1:1 "+strings.Repeat("f", 40),
		"--datadirectory", n.dir))
	if err != nil {
		return "", err
	}
	match := relayFingerprint.FindSubmatch(output)
	if match == nil {
		return "", fmt.Errorf("tor printed no fingerprint: %q", output)
	}
	return strings.ReplaceAll(string(match[1]), " ", ""), nil
}

// runTied runs a short-lived program to its end and returns its standard
// output. It ends with ctx or with this process.
func runTied(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	var output, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &complaints
	if err := ptproc.StartTied(cmd); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", filepath.Base(cmd.Path), err)
	}
	stop := context.AfterFunc(ctx, func() {
		// An error means that it has ended, which is what was wanted.
		_ = cmd.Process.Kill()
	})
	defer stop()
	err := cmd.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, bytes.TrimSpace(complaints.Bytes()))
	}
	return output.Bytes(), nil
}
