//go:build escape

package walls

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Surroundings are what code that got out of the sandbox would want. What is here exists,
// and the process's user may have it.
type Surroundings struct {
	Secret   string // a file of the user's
	Home     string // a directory that the user may write to
	State    string // the state directory
	Socket   string // a Unix socket that somebody listens at
	Abstract string // an abstract one, without the @
	Port     int    // a TCP port of loopback that was not granted, where somebody listens
	Granted  int    // one that was
	Victim   int    // a process of the user's
}

// Attempt is one thing that is tried.
type Attempt struct {
	Name string
	// Granted is whether the process is to have it.
	Granted bool
	Do      func() error
}

// call makes a system call and returns its error.
func call(number uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, errno := syscall.Syscall6(number, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
		return errno
	}
	return nil
}

func text(s string) uintptr {
	p, err := syscall.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	kept = append(kept, p)
	return uintptr(unsafe.Pointer(p))
}

var kept []*byte // what system calls are given

func read(path string) func() error {
	return func() error { _, err := os.ReadFile(path); return err }
}

func open(path string) func() error {
	return func() error {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err == nil {
			f.Close()
		}
		return err
	}
}

func list(path string) func() error {
	return func() error { _, err := os.ReadDir(path); return err }
}

func write(path string) func() error {
	return func() error { return os.WriteFile(path, []byte("#!/bin/sh\ntrue\n"), 0o700) }
}

// socket makes a socket and uses it.
func socket(family, kind, protocol int, use func(fd int) error) func() error {
	return func() error {
		fd, err := unix.Socket(family, kind, protocol)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if use == nil {
			return nil
		}
		return use(fd)
	}
}

func connect(to unix.Sockaddr) func(int) error {
	return func(fd int) error { return unix.Connect(fd, to) }
}

func loopback(port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

func run(path string, args ...string) func() error {
	return func() error { return exec.Command(path, args...).Run() }
}

// attempted is for system calls with arguments of no use: one that gets as far as the
// kernel's own checks of these has been made.
func attempted(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EACCES) {
		return err
	}
	return nil
}

// Attempts returns what is tried, in order.
func Attempts(s Surroundings) []Attempt {
	own := filepath.Join(s.State, "escape-was-here")
	copied := filepath.Join(s.State, "escape-sh")
	victim := uintptr(s.Victim)
	var iov [2]uintptr
	return []Attempt{
		{"write to the state directory", true, write(own)},
		{"read the state directory", true, read(own)},
		{"connect to the port that is granted", true, socket(unix.AF_INET, unix.SOCK_STREAM, 0, connect(loopback(s.Granted)))},
		{"look at the time", true, func() error { time.Now(); return nil }},

		{"read a user's file", false, read(s.Secret)},
		{"read /etc/passwd", false, read("/etc/passwd")},
		{"read /etc/shadow", false, read("/etc/shadow")},
		{"list /", false, list("/")},
		{"list a home directory", false, list(s.Home)},
		{"list /proc", false, list("/proc")},
		{"read another process's environment", false, read(fmt.Sprintf("/proc/%d/environ", s.Victim))},
		{"read another process's memory", false, open(fmt.Sprintf("/proc/%d/mem", s.Victim))},
		{"write to a home directory", false, write(filepath.Join(s.Home, "escape"))},
		{"write to /tmp", false, write(filepath.Join(os.TempDir(), fmt.Sprintf("escape-%d", os.Getpid())))},
		{"append to a user's file", false, func() error {
			f, err := os.OpenFile(s.Secret, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				f.Close()
			}
			return err
		}},
		{"remove a user's file", false, func() error { return os.Remove(s.Secret) }},
		{"link a user's file into the state directory", false, func() error { return os.Link(s.Secret, filepath.Join(s.State, "escape-link")) }},
		{"read it by a symbolic link there", false, func() error {
			link := filepath.Join(s.State, "escape-symlink")
			if err := unix.Symlinkat(s.Secret, unix.AT_FDCWD, link); err != nil {
				return err
			}
			return read(link)()
		}},
		{"open /dev/kmsg", false, open("/dev/kmsg")},

		{"run a shell", false, run("/bin/sh", "-c", "true")},
		{"run a file of the state directory", false, func() error {
			if err := write(copied)(); err != nil {
				return err
			}
			return run(copied)()
		}},
		{"run a program from memory", false, func() error {
			fd, err := unix.MemfdCreate("escape", 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			self, err := os.ReadFile("/proc/self/exe")
			if err != nil {
				return err
			}
			if _, err := unix.Write(fd, self); err != nil {
				return err
			}
			return run(fmt.Sprintf("/proc/self/fd/%d", fd), "version")()
		}},

		{"trace a process", false, func() error {
			if err := unix.PtraceSeize(s.Victim); err != nil {
				return err
			}
			return unix.PtraceDetach(s.Victim)
		}},
		{"read a process's memory by a call", false, func() error {
			return attempted(call(unix.SYS_PROCESS_VM_READV, victim, uintptr(unsafe.Pointer(&iov)), 1, uintptr(unsafe.Pointer(&iov)), 1, 0))
		}},
		{"signal a process", false, func() error { return unix.Kill(s.Victim, 0) }},
		{"signal a thread of a process", false, func() error { return unix.Tgkill(s.Victim, s.Victim, 0) }},
		{"open a process", false, func() error {
			fd, err := unix.PidfdOpen(s.Victim, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}},
		{"limit a process", false, func() error { return unix.Prlimit(s.Victim, unix.RLIMIT_CORE, &unix.Rlimit{}, nil) }},

		{"connect to another port", false, socket(unix.AF_INET, unix.SOCK_STREAM, 0, connect(loopback(s.Port)))},
		{"connect to it by Multipath TCP", false, socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, connect(loopback(s.Port)))},
		{"connect to it by Fast Open", false, socket(unix.AF_INET, unix.SOCK_STREAM, 0, func(fd int) error {
			return unix.Sendto(fd, []byte("x"), unix.MSG_FASTOPEN, loopback(s.Port))
		})},
		{"listen at a port", false, func() error {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				l.Close()
			}
			return err
		}},
		{"listen at no port", false, socket(unix.AF_INET, unix.SOCK_STREAM, 0, func(fd int) error { return unix.Listen(fd, 1) })},
		{"open a socket of another kind", false, func() error {
			err := socket(unix.AF_INET, unix.SOCK_SEQPACKET, 0, nil)()
			return attempted(err)
		}},
		{"let others read a user's file", false, func() error { return os.Chmod(s.Secret, 0o666) }},
		{"connect to a Unix socket", false, socket(unix.AF_UNIX, unix.SOCK_STREAM, 0, connect(&unix.SockaddrUnix{Name: s.Socket}))},
		{"connect to an abstract one", false, socket(unix.AF_UNIX, unix.SOCK_STREAM, 0, connect(&unix.SockaddrUnix{Name: "@" + s.Abstract}))},
		{"open a raw socket", false, socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP, nil)},
		{"open a packet socket", false, socket(unix.AF_PACKET, unix.SOCK_RAW, 0, nil)},
		{"open a netlink socket", false, socket(unix.AF_NETLINK, unix.SOCK_RAW, 0, nil)},
		{"open a socket to the host", false, socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0, nil)},
		{"open a socket of the kernel's cryptography", false, socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0, nil)},

		{"mount", false, func() error { return attempted(unix.Mount("none", "/nonexistent", "tmpfs", 0, "")) }},
		{"change the root", false, func() error { return attempted(call(unix.SYS_CHROOT, text("/nonexistent"))) }},
		{"make a namespace", false, func() error { return attempted(call(unix.SYS_UNSHARE, unix.CLONE_NEWUTS)) }},
		{"make a namespace with a process", false, func() error {
			c := exec.Command("/proc/self/exe", "version")
			c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUTS}
			return c.Run()
		}},
		{"enter a namespace", false, func() error { return attempted(call(unix.SYS_SETNS, ^uintptr(0), 0)) }},
		{"load a program into the kernel", false, func() error { return attempted(call(unix.SYS_BPF, ^uintptr(0), 0, 0)) }},
		{"watch performance counters", false, func() error { return attempted(call(unix.SYS_PERF_EVENT_OPEN, 0, 0, ^uintptr(0), ^uintptr(0), 0)) }},
		{"add a key", false, func() error {
			return attempted(call(unix.SYS_ADD_KEY, text("user"), text("escape"), text("x"), 1, ^uintptr(3)+1))
		}},
		{"read keys", false, func() error { return attempted(call(unix.SYS_KEYCTL, 0, ^uintptr(2), 0)) }},
		{"handle page faults", false, func() error { return attempted(call(unix.SYS_USERFAULTFD, ^uintptr(0))) }},
		{"make an io_uring", false, func() error { return attempted(call(unix.SYS_IO_URING_SETUP, 0, 0)) }},
		{"load a module of the kernel", false, func() error { return attempted(call(unix.SYS_FINIT_MODULE, ^uintptr(0), text(""), 0)) }},
		{"load a kernel", false, func() error { return attempted(call(unix.SYS_KEXEC_LOAD, 0, 0, 0, ^uintptr(0))) }},
		{"set the time", false, func() error { return attempted(call(unix.SYS_CLOCK_SETTIME, 99, 0)) }},
		{"set the host's name", false, func() error { return attempted(call(unix.SYS_SETHOSTNAME, 0, ^uintptr(0))) }},
		{"become somebody else", false, func() error { return attempted(call(unix.SYS_SETRESUID, ^uintptr(0), ^uintptr(0), ^uintptr(0))) }},
		{"change what the process is", false, func() error { return attempted(call(unix.SYS_PERSONALITY, 0xffffffff)) }},
		{"read the process's options", false, func() error { return attempted(call(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE)) }},
		{"make a device", false, func() error {
			return unix.Mknod(filepath.Join(s.State, "escape-device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
		}},
	}
}
