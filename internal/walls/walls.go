// Package walls puts a second wall round a process that runs modules: should a module get
// out of the sandbox that WebAssembly is, the system still gives it no more than the
// process needs. On Linux these are no_new_privs, Landlock and a seccomp filter; elsewhere
// there are none.
package walls

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
)

// Plan is what a process needs after [Raise]. What is open by then stays usable.
type Plan struct {
	// Read are files, and directories with all that is in them, to be read. They need not
	// exist; what appears later in the place of a file that does not cannot be read.
	Read []string
	// Write are directories to be read and written.
	Write []string
	// Connect are the TCP ports to connect to, on whatever machine; AnyPort is all.
	Connect []PortRange
	// Bind are the TCP ports to bind; 0 is one of the system's choice.
	Bind []uint16
	// Listen is whether sockets are to listen, on ports of Bind or, with Unix, on Unix sockets.
	Listen, Unix bool
}

// PortRange is the TCP ports from Low to High.
type PortRange struct{ Low, High uint16 }

// AnyPort is every port.
var AnyPort = PortRange{1, 65535}

// DNS is where names are looked up, by TCP if an answer is long.
var DNS = Port(53)

// Port is one port.
func Port(n uint16) PortRange { return PortRange{n, n} }

// Standing is which walls stand.
type Standing struct {
	NoNewPrivs bool // no program gives the process more rights
	Files      bool // Landlock: files
	TCP        bool // Landlock: ports of TCP
	Scoped     bool // Landlock: signals and abstract Unix sockets
	Syscalls   bool // seccomp
}

// Missing returns what does not stand, in words; empty if all do.
func (s Standing) Missing() string {
	return s.list(false)
}

// String returns what stands, in words.
func (s Standing) String() string {
	if s == (Standing{}) {
		return "none"
	}
	return s.list(true)
}

func (s Standing) list(standing bool) string {
	var names []string
	for _, wall := range []struct {
		stands bool
		name   string
	}{
		{s.NoNewPrivs, "no new privileges"},
		{s.Files, "files (Landlock)"},
		{s.TCP, "TCP ports (Landlock)"},
		{s.Scoped, "signals (Landlock)"},
		{s.Syscalls, "system calls (seccomp)"},
	} {
		if wall.stands == standing {
			names = append(names, wall.name)
		}
	}
	return strings.Join(names, ", ")
}

// maxPorts is how many ports have a rule each. Beyond that ports are not restricted.
const maxPorts = 4096

// ports returns the ports of ranges one by one; ok is false if they are too many.
func ports(ranges []PortRange) (list []uint16, ok bool) {
	seen := map[uint16]bool{}
	for _, r := range ranges {
		if int(r.High)-int(r.Low) >= maxPorts {
			return nil, false
		}
		for n := int(r.Low); n <= int(r.High); n++ {
			if p := uint16(n); !seen[p] {
				seen[p] = true
				list = append(list, p)
			}
		}
	}
	return list, len(list) <= maxPorts
}

// failed is the error of a wall that the system has, and that could not be raised.
func failed(wall string, err error) error { return fmt.Errorf("%s: %w", wall, err) }

// raised is the plan of the walls that stand round this process; nil if there are none.
var raised atomic.Pointer[Plan]

// Explain adds to an error that a wall may be its cause what can be done about it.
func Explain(err error) error {
	if raised.Load() == nil || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w; if the file was put in another's place, the second wall keeps the process from it: "+
		"start it again, or keep modules in a directory of their own, or use -walls=off", err)
}

// CheckPorts returns an error if TCP connections to the ports from low to high cannot be
// made, because the walls were raised for others.
func CheckPorts(low, high uint16) error {
	p := raised.Load()
	if p == nil {
		return nil
	}
	for n := int(low); n <= int(high); n++ {
		if !slices.ContainsFunc(p.Connect, func(r PortRange) bool { return int(r.Low) <= n && n <= int(r.High) }) {
			return fmt.Errorf("the second wall was raised when the port %d was not granted: start the process again", n)
		}
	}
	return nil
}
