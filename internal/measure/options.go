package measure

import (
	"errors"
	"fmt"
	"time"
)

// Options sizes the tests.
type Options struct {
	Size      int64         `json:"bulk_bytes"`    // most bytes per bulk transfer
	Limit     time.Duration `json:"bulk_limit_ns"` // longest sending per bulk transfer, and longest round of set-ups
	Chunk     int           `json:"chunk_bytes"`   // bytes per write of bulk transfers
	Parallel  int           `json:"parallel"`      // connections of the tests upN and downN
	Setups    int           `json:"setups"`        // most of a round; Limit ends them as well
	Workers   int           `json:"workers"`       // that set up connections at once
	Pings     int           `json:"pings"`
	Echo      int           `json:"echo_bytes"` // of the integrity test
	CloseSize int           `json:"close_bytes"`
	Tries     int           `json:"close_tries"`
	Slow      SlowOptions   `json:"slow"`
	Idle      []int         `json:"idle"` // ascending numbers of idle connections
	IdleWatch time.Duration `json:"idle_watch_ns"`
	Stall     StallOptions  `json:"stall"`
	// OneSided means that path.Client is this very process, and labels it so.
	OneSided bool `json:"one_sided"`
}

// DefaultOptions are the sizes of a full run.
func DefaultOptions() Options {
	return Options{
		Size:      512 << 20,
		Limit:     2 * time.Second,
		Chunk:     64 << 10,
		Parallel:  8,
		Setups:    2000,
		Workers:   8,
		Pings:     2000,
		Echo:      16 << 20,
		CloseSize: 1 << 20,
		Tries:     10,
		Slow:      SlowOptions{Size: 64 << 20, Pause: time.Second, Burst: 4 << 20, Nap: 50 * time.Millisecond},
		Idle:      []int{100, 500},
		IdleWatch: 3 * time.Second,
		Stall:     StallOptions{Conns: 1000, AtOnce: 16, Pings: 5000, Turns: 5},
	}
}

// QuickOptions are the sizes of a smoke check.
func QuickOptions() Options {
	o := DefaultOptions()
	o.Size = 64 << 20
	o.Limit = 500 * time.Millisecond
	o.Setups = 40
	o.Pings = 500
	o.Echo = 4 << 20
	o.Slow = SlowOptions{Size: 16 << 20, Pause: 300 * time.Millisecond, Burst: 4 << 20, Nap: 20 * time.Millisecond}
	o.Idle = []int{50}
	o.IdleWatch = 500 * time.Millisecond
	o.Stall.Conns, o.Stall.Pings, o.Stall.Turns = 100, 1000, 2
	return o
}

// Validate reports options with which the tests cannot run.
func (o Options) Validate() error {
	for _, c := range []struct {
		what string
		ok   bool
	}{
		{"bulk size", o.Size > 0},
		{"bulk limit", o.Limit > 0},
		{"chunk size", o.Chunk > 0},
		{"number of parallel connections", o.Parallel > 0},
		{"number of set-ups", o.Setups > 0},
		{"number of workers", o.Workers > 0},
		{"number of round trips", o.Pings > 0},
		{"size of the integrity test", o.Echo > 0},
		{"size of the closing test", o.CloseSize > 0},
		{"number of closes", o.Tries > 0},
		{"size of the slow reader's transfer", o.Slow.Size > 0},
		{"slow reader's burst", o.Slow.Burst > 0},
		{"idle watch time", o.IdleWatch > 0},
		{"number of connections beside a stalled one", o.Stall.Conns > 0},
		{"number of round trips at once", o.Stall.AtOnce > 0},
		{"number of round trips beside a stalled connection", o.Stall.Pings > 0},
		{"number of turns", o.Stall.Turns > 0},
	} {
		if !c.ok {
			return fmt.Errorf("the %s must be positive", c.what)
		}
	}
	if len(o.Idle) == 0 {
		return errors.New("no number of idle connections")
	}
	last := 0
	for _, n := range o.Idle {
		if n <= last {
			return errors.New("the numbers of idle connections must be positive and ascending")
		}
		last = n
	}
	return nil
}
