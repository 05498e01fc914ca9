package transport

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// failures returns what has failed, and the number of instances, without the figures
// that connections and memory have.
func failures(s Stats) Stats {
	return Stats{Instances: s.Instances, Refused: s.Refused, Traps: s.Traps, Limits: s.Limits}
}

// What goes wrong is counted once, whether an instance carries one connection or many.
func TestFailures(t *testing.T) {
	ctx := t.Context()
	echo := echoServer(t)
	for name, wrong := range map[string]struct {
		module string
		limit  func(*Config)
		want   Stats
	}{
		"nothing, each":    {"plain", nil, Stats{Instances: 1}},
		"nothing, shared":  {"plain" + inOne, nil, Stats{Instances: 1}},
		"nothing, threads": {"threads", nil, Stats{Instances: 1}},
		"memory, each":     {"plain", func(c *Config) { c.MaxMemory = 1 }, Stats{Refused: 1, Limits: 1}},
		"memory, shared":   {"plain" + inOne, func(c *Config) { c.MaxMemory = 1 }, Stats{Refused: 1, Limits: 1}},
		"time, each":       {"plain", slowly, Stats{Refused: 1, Limits: 1}},
		"time, shared":     {"plain" + inOne, slowly, Stats{Refused: 1, Limits: 1, Instances: 1}},
		"trap, each":       {"evil_trap_init_v1", nil, Stats{Refused: 1, Traps: 1}},
		"network":          {"plain", func(c *Config) { c.Dial = refuse }, Stats{Refused: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, wrong.module)
			if wrong.limit != nil {
				wrong.limit(&cfg)
			}
			d, err := NewDialer(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			c, err := d.Dial(ctx, "tcp", echo, nil)
			if (err == nil) != (wrong.want.Refused == 0) {
				t.Fatal(err)
			}
			if err == nil {
				defer c.Close()
				if c.SetupTime() <= 0 {
					t.Error("the set-up took no time")
				}
			}
			awaitStats(t, d, func(s Stats) bool {
				return (s.Memory > 0) == (s.Instances > 0) && failures(s) == wrong.want
			})
		})
	}
}

func slowly(c *Config) {
	c.SetupTimeout = time.Second
	c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
}

func refuse(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }

// A trap in a connection that is up is counted, too, and so is a client that a
// listener does not get.
func TestFailuresLater(t *testing.T) {
	d, err := NewDialer(testConfig(t, "evil_trap_worker_v1"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Dial(t.Context(), "tcp", echoServer(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write(make([]byte, 64<<10)) // it traps while it carries this
	awaitStats(t, d, func(s Stats) bool { return failures(s) == Stats{Traps: 1} })

	cfg := testConfig(t, "framed_v1")
	cfg.SetupTimeout = time.Second / 2
	l, err := Listen(t.Context(), cfg, loopback(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	awaitStats(t, l, func(s Stats) bool { return failures(s) == Stats{Refused: 1, Limits: 1} })
}
