package tornet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pollInterval is how often a condition outside this process is looked at.
const pollInterval = 25 * time.Millisecond

// nodeVariable is put into the environment of every tor and holds the node's
// folder. What tor launches inherits it, so that a transport process can be
// found even when its tor is dead and it has been given to another parent.
const nodeVariable = "TORNET_NODE"

// Processes returns the processes that are alive of the network, or of the node,
// whose files are in dir: tors and what they have launched. It needs Linux's
// /proc and finds nothing without it.
func Processes(dir string) ([]Process, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return processesWith(nodeVariable, func(node string) bool {
		return node == dir || strings.HasPrefix(node, dir+string(filepath.Separator))
	})
}

// ProcessesWith returns the processes that are alive and were started with an
// environment variable of the given value. Like Processes it needs /proc.
func ProcessesWith(variable, value string) ([]Process, error) {
	return processesWith(variable, func(v string) bool { return v == value })
}

// Process is a process seen on this machine. Its start time is part of it, so
// that a process number that has been given to another process in the meantime
// does not deceive.
type Process struct {
	// PID is the process number.
	PID int
	// Command is the command line, its words joined by spaces.
	Command string

	started uint64 // in the kernel's clock ticks since boot
}

func (p Process) String() string { return fmt.Sprintf("process %d (%s)", p.PID, p.Command) }

// kill ends the process at once, if it is still the one that was seen.
func (p Process) kill() error {
	// FindProcess pins the process (a pidfd on Linux): no other can get the
	// number between the check and the signal.
	handle, err := os.FindProcess(p.PID)
	if err != nil {
		return fmt.Errorf("cannot kill %v: %w", p, err)
	}
	defer handle.Release()
	if !p.Alive() {
		return nil
	}
	if err := handle.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot kill %v: %w", p, err)
	}
	return nil
}

// waitGone waits until no process of a node is alive; it returns those that are
// when the time is up.
func waitGone(dir string, patience time.Duration) ([]Process, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		// Asked anew each time: a tor that dies may just have launched one.
		alive, err := Processes(dir)
		if err != nil || len(alive) == 0 {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return alive, nil
		case <-tick.C:
		}
	}
}

// SurvivorsError reports transport processes that did not end although their
// tor did; they were killed.
type SurvivorsError struct {
	// Processes are those that were killed.
	Processes []Process
}

func (e *SurvivorsError) Error() string {
	words := make([]string, len(e.Processes))
	for i, p := range e.Processes {
		words[i] = p.String()
	}
	return "had to kill what outlived its tor: " + strings.Join(words, ", ")
}

// survivalTime is how long a transport process may live on after its tor: much longer
// than it takes, and less than the time for which it waits for connections otherwise.
const survivalTime = 20 * time.Second

// killTime is how long the kernel is given to end what was killed.
const killTime = 5 * time.Second

// endProcesses waits until every process of a node is gone and kills those that
// are alive after patience, which is reported as a [*SurvivorsError].
func endProcesses(dir string, patience time.Duration) error {
	alive, err := waitGone(dir, patience)
	if err != nil || len(alive) == 0 {
		return err
	}
	errs := []error{&SurvivorsError{Processes: alive}}
	for _, p := range alive {
		errs = append(errs, p.kill())
	}
	alive, err = waitGone(dir, killTime)
	errs = append(errs, err)
	for _, p := range alive {
		errs = append(errs, fmt.Errorf("%v is alive although it was killed", p))
	}
	return errors.Join(errs...)
}
