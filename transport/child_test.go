package transport

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

const childVariable = "WATERPROXY_TEST_CHILD"

// inChild runs the calling test in a process of its own and returns true in it.
// In the parent it fails the test if the child failed, or did not end in time:
// what a child can do no test could survive. The rest is what the child printed.
func inChild(t *testing.T, limit time.Duration) (child bool, stdout []byte) {
	t.Helper()
	if os.Getenv(childVariable) == t.Name() {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout="+limit.String())
	cmd.Env = append(os.Environ(), childVariable+"="+t.Name())
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Errorf("the process of its own: %v (%v)\n%s%s", err, context.Cause(ctx), out.Bytes(), errs.Bytes())
	}
	return false, out.Bytes()
}
