//go:build !linux

package stream

// A Poller is where one goroutine waits for wakes; here its sockets wait elsewhere.
type Poller struct{ *Sleeper }

// NewPoller returns a Poller for one goroutine to wait in.
func NewPoller() (*Poller, error) { return &Poller{NewSleeper()}, nil }

// Close does nothing.
func (p *Poller) Close() error { return nil }
