package transport

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// loadPause is how long after a failed load the next one begins.
const loadPause = time.Second

// generations are the configurations that a dialer or listener works with, one after
// the other. V is what it makes of a configuration. A generation ends when the next one
// takes its place and its last set-up is over.
type generations[V interface{ close() error }] struct {
	// load brings about the first replace; nil if the user does that.
	load func(context.Context) error
	life context.Context // ends with close
	end  context.CancelFunc

	mu      sync.Mutex
	current *generation[V] // nil before the first
	loading *loading       // nil if load is not running
	due     time.Time      // load does not begin before that
}

// generation is a value with its set-ups under way.
type generation[V interface{ close() error }] struct {
	value     V
	settingUp sync.WaitGroup
	release   func() // of the module
}

// loading is one call of load.
type loading struct {
	done chan struct{} // closed when it has returned
	err  error
}

func newGenerations[V interface{ close() error }](load func(context.Context) error) *generations[V] {
	g := &generations[V]{load: load}
	g.life, g.end = context.WithCancel(context.Background())
	return g
}

// use returns the current value, which is kept until done is called. If there is none
// yet, it waits for load, no longer than ctx; everybody who waits shares one call, and
// its error.
func (g *generations[V]) use(ctx context.Context) (v V, done func(), err error) {
	for {
		g.mu.Lock()
		if g.life.Err() != nil {
			g.mu.Unlock()
			return v, nil, net.ErrClosed
		}
		if c := g.current; c != nil {
			c.settingUp.Add(1)
			g.mu.Unlock()
			return c.value, c.settingUp.Done, nil
		}
		if g.load == nil {
			g.mu.Unlock()
			return v, nil, errNoGeneration
		}
		l := g.loading
		if l == nil {
			l = g.beginLoad()
		}
		g.mu.Unlock()
		select {
		case <-l.done:
			if l.err != nil {
				return v, nil, l.err
			}
		case <-g.life.Done(): // compiling a module cannot be interrupted
		case <-ctx.Done():
			return v, nil, context.Cause(ctx)
		}
	}
}

var errNoGeneration = &Error{"use", ErrConfig, errors.New("there has been no Reload yet")}

// beginLoad calls load in the background. The lock is held.
func (g *generations[V]) beginLoad() *loading {
	l := &loading{done: make(chan struct{})}
	g.loading = l
	pause := time.NewTimer(time.Until(g.due))
	go func() {
		defer close(l.done)
		defer pause.Stop()
		select {
		case <-pause.C:
			l.err = g.load(g.life)
		case <-g.life.Done():
			l.err = net.ErrClosed
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.loading = nil
		if l.err != nil {
			g.due = time.Now().Add(loadPause)
		}
	}()
	return l
}

// now returns the current value, the zero value if there is none yet.
func (g *generations[V]) now() (v V) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.current != nil {
		v = g.current.value
	}
	return v
}

// replace makes v, which uses a module, the current value. After close it closes v, and
// returns an error.
func (g *generations[V]) replace(v V, m *Module) error {
	next := &generation[V]{value: v, release: m.m.Retain()}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life.Err() != nil {
		next.retire()
		return &Error{"reload", ErrConfig, net.ErrClosed}
	}
	if g.current != nil {
		g.current.retire()
	}
	g.current = next
	return nil
}

// retire ends a generation that is not the current one, after its last set-up.
func (g *generation[V]) retire() {
	go func() {
		g.settingUp.Wait()
		_ = g.value.close() // of an instance without connections; a dialer has no error
		g.release()
	}()
}

// close closes the current value. It does not wait for set-ups, nor for load: what that
// brings is closed at once.
func (g *generations[V]) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.life.Err() != nil {
		return nil
	}
	g.end()
	if g.current == nil {
		return nil
	}
	g.current.release()
	return g.current.value.close()
}
