package tornet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// stat is what is needed of /proc/PID/stat.
type stat struct {
	state   byte
	parent  int
	started uint64
}

// readStat reads the state of a process; an error is fs.ErrNotExist or ESRCH if
// there is no such process.
func readStat(pid int) (stat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The second field is the program's name in parentheses, which may hold
	// anything; what follows its last parenthesis is plain.
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 20 {
		return stat{}, fmt.Errorf("cannot understand /proc/%d/stat: %q", pid, text)
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return stat{}, fmt.Errorf("parent in /proc/%d/stat: %w", pid, err)
	}
	started, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("start time in /proc/%d/stat: %w", pid, err)
	}
	return stat{state: fields[0][0], parent: parent, started: started}, nil
}

// dead reports whether a state is that of a process that runs no more: an
// orphan may stay a zombie until its exit status is read.
func (s stat) dead() bool { return s.state == 'Z' || s.state == 'X' }

// vanished reports whether an error means that a process is gone.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
}

// Alive reports whether the process still runs.
func (p Process) Alive() bool {
	s, err := readStat(p.PID)
	if err != nil {
		// What cannot be looked at is not known to be gone.
		return !vanished(err)
	}
	return !s.dead() && s.started == p.started
}

// processesWhere returns the processes that are alive and that match accepts.
func processesWhere(match func(pid int, s stat) (bool, error)) ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // not a process
		}
		p, ok, err := inspect(pid, match)
		if err != nil && !vanished(err) {
			return nil, err
		}
		if err == nil && ok {
			found = append(found, p)
		}
	}
	return found, nil
}

func inspect(pid int, match func(pid int, s stat) (bool, error)) (Process, bool, error) {
	s, err := readStat(pid)
	if err != nil || s.dead() {
		return Process{}, false, err
	}
	ok, err := match(pid, s)
	if err != nil || !ok {
		return Process{}, false, err
	}
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return Process{}, false, err
	}
	words := strings.Split(strings.TrimRight(string(command), "\x00"), "\x00")
	return Process{PID: pid, Command: strings.Join(words, " "), started: s.started}, true, nil
}

// childProcesses returns the processes whose parent is pid.
func childProcesses(pid int) ([]Process, error) {
	return processesWhere(func(_ int, s stat) (bool, error) { return s.parent == pid, nil })
}

// processesWith returns the processes that were started with a variable whose
// value match accepts.
func processesWith(variable string, match func(value string) bool) ([]Process, error) {
	prefix := []byte(variable + "=")
	return processesWhere(func(pid int, _ stat) (bool, error) {
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if errors.Is(err, fs.ErrPermission) {
			return false, nil // another user's process is not ours
		}
		if err != nil {
			return false, err
		}
		for v := range bytes.SplitSeq(environment, []byte{0}) {
			if value, ok := bytes.CutPrefix(v, prefix); ok {
				return match(string(value)), nil
			}
		}
		return false, nil
	})
}
