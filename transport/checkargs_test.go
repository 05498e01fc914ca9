package transport

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"waterproxy/transport/testmodules"
)

// noNetwork fails the test if anything dials.
func noNetwork(t *testing.T, cfg Config) Config {
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		t.Error("the check has dialed")
		return nil, errors.New("there is no network")
	}
	return cfg
}

// TestCheckArgs: what a module thinks of arguments is known without a connection, and
// dialing with them has the same words for it.
func TestCheckArgs(t *testing.T) {
	eachWay(t, func(t *testing.T, cfg Config) {
		for name, args := range oddArgs {
			if err := CheckArgs(t.Context(), noNetwork(t, cfg), args); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		const words = "this is the error that was asked for"
		bad := fault("check", "error")
		err := CheckArgs(t.Context(), noNetwork(t, cfg), bad)
		if refused, ok := errors.AsType[*ArgsError](err); !ok || refused.Reason != words || !errors.Is(err, ErrConfig) {
			t.Errorf("refused with %v", err)
		}
		_, err = newDialer(t, cfg).Dial(t.Context(), "tcp", echoServer(t), bad)
		if !errors.Is(err, ErrModule) || !strings.Contains(err.Error(), words) {
			t.Errorf("dialing fails with %v", err)
		}
		if kind, own := Kind(err); kind != "arguments refused by the module" || own {
			t.Errorf("that is a failure of the kind %q, %v", kind, own)
		}
	})
}

// TestCheckArgsFails: a check that fails is no refusal, leaves nothing behind and harms
// no connection.
func TestCheckArgsFails(t *testing.T) {
	cfg := testConfig(t, faults+inOne)
	near := dial(t, newDialer(t, cfg), echoServer(t), nil)
	for way, layer := range map[string]error{"crash": ErrTrap, "exit": ErrModule, "spin": ErrNetwork, "hang": ErrNetwork} {
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- CheckArgs(ctx, cfg, fault("check", way)) }()
		if layer == ErrNetwork { // it goes on until the context ends
			awaitInstances(t, cfg.Module, 2)
			cancel()
		}
		err := <-stopped
		if _, refused := errors.AsType[*ArgsError](err); refused || !errors.Is(err, layer) {
			t.Errorf("%s: %v, want a %v", way, err, layer)
		}
		cancel()
		awaitInstances(t, cfg.Module, 1)
	}
	if err := carries(near, near, "a line of text"); err != nil {
		t.Error(err)
	}
}

// TestCheckArgsModules: modules without the SDK, and those that have nothing to check.
func TestCheckArgsModules(t *testing.T) {
	for name, want := range map[string]string{
		"plain_v0":            "",
		"plain_v1":            "",
		"many_c":              "",
		"probe_args_v1":       "check arguments: the module refuses the bridge line's arguments",
		"probe_args_many_v1":  "check arguments: the module refuses the bridge line's arguments",
		"probe_args_dials_v1": "dial: the module asked for a connection that its role does not have",
	} {
		err := CheckArgs(t.Context(), noNetwork(t, testConfig(t, name)), fault("a", "b"))
		if got := errorText(err); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		if refused := errors.Is(err, ErrConfig); refused != strings.Contains(want, "refuses") {
			t.Errorf("%s: %v is a refusal: %v", name, err, refused)
		}
	}
	if _, err := Compile(testmodules.Load(t, "probe_args_type_v1"), CompileOptions{}); err == nil || !strings.Contains(err.Error(), "watm_check_args_v1 has the type") {
		t.Errorf("a check of another type: %v", err)
	}
	if err := CheckArgs(t.Context(), Config{}, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("without a module: %v", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
