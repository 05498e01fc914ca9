package transport

import (
	"sync"
	"sync/atomic"
	"testing"

	"waterproxy/internal/pttest"
)

// TestChurnMany opens and closes connections by the thousand in one instance, 64 at
// once: nothing may be left of them, and it has to be the same instance.
func TestChurnMany(t *testing.T) {
	const warmUp, atOnce = 200, 64
	total := int64(pttest.Count(5000, 1000))
	cfg := quietConfig(t, "plain"+inOne)
	d, l := manyDialer(t, cfg), listen(t, cfg)
	for role, x := range map[string]struct {
		link link
		of   interface{ Stats() Stats }
		pool *pool
	}{
		"client": {dialLink(t, d, loopback(t)), d, d.pool},
		"server": {acceptLink(t, l), l, l.generations.now().pool},
	} {
		t.Run(role, func(t *testing.T) {
			churn := func(n int64) {
				var next atomic.Int64
				var workers sync.WaitGroup
				for range atOnce {
					workers.Go(func() {
						for i := next.Add(1); i <= n; i = next.Add(1) {
							if err := churnOne(t.Context(), x.link, int(i)); err != nil {
								t.Errorf("connection %d: %v", i, err)
								return
							}
						}
					})
				}
				workers.Wait()
				awaitFigures(t, x.of, func(s figures) bool { return s == figures{Instances: 1} })
			}
			churn(warmUp) // what is made once and kept
			m := x.pool.members[0]
			before := usage(t)
			churn(total)
			t.Log(usage(t))
			waitForUsage(t, before)
			if n := m.in.Load(); n != 0 || x.pool.members[0] != m {
				t.Errorf("%d connections are left in the instance, which is the same: %v", n, x.pool.members[0] == m)
			}
			if n := len(x.pool.ledger.sessions()); n != 1 {
				t.Errorf("%d connections are counted for, want the instance's own", n)
			}
		})
	}
}
