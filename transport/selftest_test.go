package transport

import (
	"context"
	"errors"
	"strings"
	"testing"

	"waterproxy/transport/testmodules"
)

// TestSelfTest: a module's test of itself decides, leaves nothing behind and reaches
// nothing; a module without one passes.
func TestSelfTest(t *testing.T) {
	for name, want := range map[string]string{
		"plain_v0":            "",
		"plain_v1":            "",
		"many_c":              "",
		"probe_test_good_v1":  "",
		"probe_test_bad_v1":   "test module: the module's watm_self_test_v1 returned -71",
		"probe_test_many_v1":  "test module: the module's watm_self_test_v1 returned -71",
		"probe_test_dials_v1": "the module asked for a connection that its role does not have",
	} {
		cfg := testConfig(t, name)
		err := SelfTest(t.Context(), cfg)
		if got := errorText(err); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		awaitInstances(t, cfg.Module, 0)
	}
	if _, err := Compile(testmodules.Load(t, "probe_test_type_v1"), CompileOptions{}); err == nil || !strings.Contains(err.Error(), "watm_self_test_v1 has the type") {
		t.Errorf("a test of another type: %v", err)
	}
	if err := SelfTest(t.Context(), Config{}); !errors.Is(err, ErrConfig) {
		t.Errorf("without a module: %v", err)
	}
}

// TestSelfTestHangs: a module that does not return from its test is stopped.
func TestSelfTestHangs(t *testing.T) {
	cfg := testConfig(t, "probe_test_hangs_v1")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- SelfTest(ctx, cfg) }()
	awaitInstances(t, cfg.Module, 1)
	cancel()
	if err := <-ended; err == nil {
		t.Error("it passed")
	}
	awaitInstances(t, cfg.Module, 0)
}
