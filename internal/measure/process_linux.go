package measure

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func usageOf(pid int) (Usage, error) {
	var u Usage
	cpu, err := cpuOf(pid)
	if err != nil {
		return u, err
	}
	u.CPU = cpu
	dir := fmt.Sprintf("/proc/%d/", pid)
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return u, err
	}
	if err := parseStatus(status, &u); err != nil {
		return u, err
	}
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		return u, err
	}
	u.FDs = len(fds)
	return u, nil
}

// parseStatus reads the lines of /proc/PID/status that Usage needs. A zombie has
// no memory lines: that is an error, because the figures would all be zero.
func parseStatus(status []byte, u *Usage) error {
	found := 0
	sc := bufio.NewScanner(bytes.NewReader(status))
	for sc.Scan() {
		key, rest, _ := strings.Cut(sc.Text(), ":")
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		switch key {
		case "VmRSS", "VmHWM", "Threads":
		default:
			continue
		}
		n, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return fmt.Errorf("status line %q: %w", sc.Text(), err)
		}
		found++
		switch key {
		case "VmRSS":
			u.RSS = n << 10
		case "VmHWM":
			u.PeakRSS = n << 10
		case "Threads":
			u.Threads = int(n)
		}
	}
	if err := sc.Err(); err != nil {
		return err
	}
	if found != 3 {
		return fmt.Errorf("status has %d of the 3 lines looked for: the process has ended", found)
	}
	return nil
}

// cpuOf reads the clock that the kernel keeps for each process. It counts
// nanoseconds, where /proc/PID/stat counts hundredths of a second, too coarse
// for a transfer that takes a tenth of one. (The call is made here, and not by
// x/sys, to keep this package free of dependencies whose versions the programs
// that it is linked into would have to agree on.)
func cpuOf(pid int) (time.Duration, error) {
	const schedulerClock = 2 // CPUCLOCK_SCHED: user and system time of all threads
	clock := int32(^pid<<3 | schedulerClock)
	var ts syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("clock_gettime: %w", errno)
	}
	return time.Duration(ts.Nano()), nil
}
