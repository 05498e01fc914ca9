package walls

import (
	"os"
	"runtime"
	"slices"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// allowed are the system calls that Go's runtime, its packages and this program use, by
// what they are for. All others fail with EPERM, and none ends the process: a later Go may
// try one that is not here, and has another way.
var allowed = [][]string{
	{ // descriptors
		"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "close", "close_range", "lseek", "fcntl",
		"dup", "dup2", "dup3", "pipe", "pipe2", "sendfile", "splice", "tee", "copy_file_range", "flock", "fsync", "fdatasync", "ftruncate", "fallocate", "fadvise64",
		"epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd2", "poll", "ppoll", "select", "pselect6",
	},
	{ // files, whose names are Landlock's matter
		"open", "openat", "openat2", "stat", "lstat", "fstat", "newfstatat", "fstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
		"getdents64", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat", "symlinkat",
		"utimensat", "getcwd", "umask", // times say which of the compiled code is used
	},
	{ // memory
		"mmap", "munmap", "mprotect", "mremap", "madvise", "mincore", "brk", "membarrier",
	},
	{ // threads and time
		"futex", "set_tid_address", "set_robust_list", "get_robust_list", "rseq", "sched_yield", "sched_getaffinity", "gettid", "exit", "exit_group",
		"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "restart_syscall",
		"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "tgkill", "arch_prctl",
	},
	{ // the process and its child
		"getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getrlimit", "setrlimit", "getrusage", "sysinfo", "uname", "getrandom",
		"wait4", "waitid", "pidfd_send_signal",
	},
	{ // sockets that there are
		"bind", "connect", "accept", "accept4", "getsockname", "getpeername", "setsockopt", "getsockopt", "shutdown",
		"recvfrom", "recvmsg", "recvmmsg",
	},
}

const (
	cloneNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	setVMAName      = 0x53564d41 // PR_SET_VMA
)

// conditional are those that are allowed with some arguments.
func conditional(p Plan) []seccomp.NameWithConditions {
	without := func(name string, argument uint32, flags uint64) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: seccomp.ArgumentConditions{{Argument: argument, Operation: seccomp.BitsNotSet, Value: flags}}}
	}
	with := func(name string, values ...uint64) seccomp.NameWithConditions {
		c := seccomp.NameWithConditions{Name: name}
		for i, v := range values {
			c.Conditions = append(c.Conditions, seccomp.Condition{Argument: uint32(i), Operation: seccomp.Equal, Value: v})
		}
		return c
	}
	noExec := uint64(0)
	if fd, err := unix.MemfdCreate("probe", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL); err == nil {
		_ = unix.Close(fd)
		noExec = unix.MFD_NOEXEC_SEAL
	}
	list := []seccomp.NameWithConditions{
		memfd(noExec),
		without("clone", 0, cloneNamespaces),
		// Fast Open would connect past Landlock.
		without("sendto", 3, unix.MSG_FASTOPEN),
		without("sendmsg", 2, unix.MSG_FASTOPEN),
		without("sendmmsg", 3, unix.MSG_FASTOPEN),
		with("prlimit64", 0), // of this process
		with("prctl", setVMAName),
		with("pidfd_open", uint64(os.Getpid())), // by which os finds out whether it can signal its child by a descriptor
	}
	families := []uint64{unix.AF_INET, unix.AF_INET6}
	if p.Unix {
		families = append(families, unix.AF_UNIX)
		list = append(list, seccomp.NameWithConditions{Name: "fchmodat", Conditions: always}, seccomp.NameWithConditions{Name: "chmod", Conditions: always})
	}
	const cloexec, nonblock = unix.SOCK_CLOEXEC, unix.SOCK_NONBLOCK
	for _, family := range families {
		for _, kind := range []uint64{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
			for _, flags := range []uint64{0, cloexec, nonblock, cloexec | nonblock} {
				// The protocol 0 is TCP or UDP. Multipath TCP would connect past Landlock.
				list = append(list, with("socket", family, kind|flags, 0))
			}
		}
	}
	if p.Listen {
		// Landlock sees bind alone, and a socket that is not bound can listen.
		list = append(list, without("listen", 1, 1<<31))
	}
	return list
}

// always is a condition that holds for every call.
var always = seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.GreaterOrEqual, Value: 0}}

// memfd lets files be made in memory, with a flag, if it is one, that keeps them from being
// run: Landlock does not see them.
func memfd(flag uint64) seccomp.NameWithConditions {
	c := seccomp.Condition{Argument: 1, Operation: seccomp.BitsSet, Value: flag}
	if flag == 0 {
		c = seccomp.Condition{Argument: 1, Operation: seccomp.BitsNotSet, Value: unix.MFD_HUGETLB}
	}
	return seccomp.NameWithConditions{Name: "memfd_create", Conditions: seccomp.ArgumentConditions{c}}
}

// seccompAvailable reports whether the kernel has filters, and the list is for this machine:
// older architectures have other calls for the same.
func seccompAvailable() bool {
	return (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64") && seccomp.Supported()
}

// assemble returns the filter that lets only the system calls through that are used. execute
// is whether Landlock sees to what can be executed.
func assemble(p Plan, execute bool) ([]bpf.RawInstruction, error) {
	here, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	known := func(name string) bool { _, ok := here.SyscallNames[name]; return ok }
	var names []string
	for _, group := range allowed {
		names = append(names, group...)
	}
	if execute {
		names = append(names, "execve")
	}
	policy := seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{{
			// Its flags are in memory, where no filter sees them; callers then use clone.
			Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS),
			Names:  slices.DeleteFunc([]string{"clone3"}, func(name string) bool { return !known(name) }),
		}, {
			Action:             seccomp.ActionAllow,
			Names:              slices.DeleteFunc(names, func(name string) bool { return !known(name) }),
			NamesWithCondtions: slices.DeleteFunc(conditional(p), func(c seccomp.NameWithConditions) bool { return !known(c.Name) }),
		}},
	}
	code, err := policy.Assemble()
	if err != nil {
		return nil, err
	}
	return bpf.Assemble(code)
}

// load puts a filter on all threads. The library's own way assembles it at that moment, which
// takes as long as all of Landlock does.
func load(code []bpf.RawInstruction) error {
	filter := make([]unix.SockFilter, len(code))
	for i, c := range code {
		filter[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// No new privileges are for a thread, by which the filter then has to be loaded.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := seccomp.SetNoNewPrivs(); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}
