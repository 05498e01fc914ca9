package transport

import "testing"

// TestMemoryInAll: an instance's limit is for all that it takes of the host's memory, and
// the figure is the same sum.
func TestMemoryInAll(t *testing.T) {
	const limit = 4 << 20
	for _, entries := range []int{2, 100_000} { // a table may grow to 100,000
		b := &builder{table: entries}
		// It takes what it can get, and then waits.
		m, err := Compile(b.module("init", until(constant(1)+"\x40\x00", -1)), CompileOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if least := m.LeastMemory(); least < 2*pageSize+100_000*8 || least > limit {
			t.Errorf("%d entries: at least %d bytes", entries, least)
		}
		cfg := quietConfig(t, "plain_v1")
		cfg.Module, cfg.MaxMemory = m, limit
		d, err := NewRuntimeConnDialer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		near, _, err := dialLink(t, d, loopback(t))(t.Context())
		if err != nil {
			t.Fatalf("%d entries: %v", entries, err)
		}
		// It stays below the limit by less than a page, and what comes later.
		if got := d.Stats().Memory; got > limit || got < limit-2*pageSize {
			t.Errorf("%d entries: %d bytes, the limit is %d", entries, got, limit)
		}
		near.Abort()
	}
}
