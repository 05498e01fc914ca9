package measure

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrUnsupported is returned where a process cannot be accounted on this
// operating system.
var ErrUnsupported = errors.New("process accounting is not supported on this system")

// Process is a running process whose resources are accounted. A process that it
// starts itself is not included.
type Process struct {
	PID int
}

// Self returns the process that calls it.
func Self() *Process { return &Process{PID: os.Getpid()} }

// Usage is what a process held and had used at one moment.
type Usage struct {
	CPU     time.Duration // user and system time since the process started
	RSS     int64         // resident bytes
	PeakRSS int64         // the most that RSS ever was
	Threads int
	FDs     int
}

// Usage reads the current figures. It fails once the process is gone.
func (p *Process) Usage() (Usage, error) {
	u, err := usageOf(p.PID)
	if err != nil {
		return Usage{}, fmt.Errorf("usage of process %d: %w", p.PID, err)
	}
	return u, nil
}

// CPU reads only the processor time, which is much quicker than Usage.
func (p *Process) CPU() (time.Duration, error) {
	d, err := cpuOf(p.PID)
	if err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", p.PID, err)
	}
	return d, nil
}
