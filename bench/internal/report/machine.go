package report

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Machine is where and with what a run was made.
type Machine struct {
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"`
	Kernel string    `json:"kernel"`
	Go     string    `json:"go"`
	OS     string    `json:"os"`
	Load   string    `json:"load_average,omitempty"` // before the run
	Date   time.Time `json:"date"`
	Commit string    `json:"commit,omitempty"`
}

// ThisMachine collects the facts. What cannot be found out is left empty or
// "unknown".
func ThisMachine() Machine {
	return Machine{
		CPU:    cpuModel(),
		Cores:  runtime.NumCPU(),
		Kernel: firstOf("/proc/sys/kernel/osrelease", "unknown"),
		Go:     runtime.Version(),
		OS:     runtime.GOOS + "/" + runtime.GOARCH,
		Load:   firstOf("/proc/loadavg", ""),
		Date:   time.Now().UTC().Truncate(time.Second),
		Commit: commit(),
	}
}

func (m Machine) lines() []string {
	lines := []string{
		fmt.Sprintf("%s, %d cores, %s, kernel %s", m.CPU, m.Cores, m.OS, m.Kernel),
		fmt.Sprintf("%s, %s", m.Go, m.Date.Format(time.RFC3339)),
	}
	if m.Commit != "" {
		lines = append(lines, "commit "+m.Commit)
	}
	if f := strings.Fields(m.Load); len(f) >= 3 {
		lines = append(lines, "load average before the run "+strings.Join(f[:3], " "))
	}
	return lines
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown CPU"
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if key, value, ok := strings.Cut(sc.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}

// firstOf returns the trimmed content of a file, or a stand-in.
func firstOf(path, instead string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return instead
	}
	return strings.TrimSpace(string(b))
}

// commit is the version that the executable was built from, if the toolchain
// noted it, and otherwise the one that the working directory is at.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		var revision, modified string
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = s.Value
			case "vcs.modified":
				modified = s.Value
			}
		}
		if revision != "" {
			return mark(revision, modified == "true")
		}
	}
	revision, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return "" // no git, or no commit: nothing to tell
	}
	changes, err := exec.Command("git", "status", "--porcelain").Output()
	return mark(strings.TrimSpace(string(revision)), err != nil || len(changes) > 0)
}

func mark(revision string, modified bool) string {
	if len(revision) > 12 {
		revision = revision[:12]
	}
	if modified {
		revision += " with changes"
	}
	return revision
}
