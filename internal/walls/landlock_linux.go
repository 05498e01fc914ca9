package walls

import (
	"debug/elf"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	landlocksys "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// systemFiles are what a Go program reads late by itself: to look up names, to listen, to
// check certificates, to know how many processors it has, and what it has used so far.
var systemFiles = []string{
	"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/protocols", "/etc/host.conf", "/etc/gai.conf",
	"/etc/localtime", "/usr/share/zoneinfo",
	"/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/certs", "/etc/pki/ca-trust", "/etc/ca-certificates",
	"/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
	"/proc/sys/net/core/somaxconn", "/proc/sys/net/mptcp/enabled",
	"/proc/self", "/proc/stat", "/sys/fs/cgroup", "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "/sys/kernel/mm/hugepages",
}

// landlockABI returns the version of Landlock that the kernel has; 0 is none.
func landlockABI() int {
	version, err := landlocksys.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return version
}

// landlockRaise restricts files, ports of TCP, signals and abstract Unix sockets, as far as
// the kernel can. Later versions than 8 restrict what the seccomp filter has no place for
// (Unix sockets), and UDP, which names are looked up by.
func landlockRaise(p Plan) error {
	config := landlock.V8.BestEffort()
	rules := []landlock.Rule{
		landlock.RWDirs(directories(p.Write)...).WithRefer().IgnoreIfMissing(), // files are made aside, and moved
		landlock.RWFiles("/dev/null").IgnoreIfMissing(),
		// Not by its name: an upgrade may have replaced the file.
		landlock.PathAccess(landlocksys.AccessFSExecute|landlocksys.AccessFSReadFile, "/proc/self/exe"),
	}
	rules = append(rules, loader("/proc/self/exe")...)
	rules = append(rules, readable(systemFiles)...)
	rules = append(rules, readable(linkedDirs("/etc/resolv.conf"))...)
	rules = append(rules, readable(p.Read)...)
	if connect, limited := ports(p.Connect); limited {
		for _, port := range connect {
			rules = append(rules, landlock.ConnectTCP(port))
		}
	} else {
		config.HandledAccessNet &^= landlocksys.AccessNetConnectTCP
	}
	for _, port := range p.Bind {
		rules = append(rules, landlock.BindTCP(port))
	}
	return config.Restrict(rules...)
}

// readable returns the rules for files and directories to be read. The rights of a
// directory are an error for a file.
func readable(paths []string) []landlock.Rule {
	dirs := directories(paths)
	files := slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return slices.Contains(dirs, path) })
	return []landlock.Rule{
		landlock.PathAccess(landlocksys.AccessFSReadFile, files...).IgnoreIfMissing(),
		landlock.PathAccess(landlocksys.AccessFSReadFile|landlocksys.AccessFSReadDir, dirs...).IgnoreIfMissing(),
	}
}

// directories returns those of the paths that are directories.
func directories(paths []string) (dirs []string) {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			dirs = append(dirs, path)
		}
	}
	return dirs
}

// libraries are where a program that is not static finds what it needs.
var libraries = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"}

// loader returns the rules by which an executable can be started if it was linked with C
// libraries; none if it was not.
func loader(executable string) []landlock.Rule {
	f, err := elf.Open(executable)
	if err != nil {
		return nil // the start of a child says what is wrong
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(p.Open())
		if err != nil {
			return nil
		}
		interpreter := strings.TrimRight(string(name), "\x00")
		rule := landlock.PathAccess(landlocksys.AccessFSExecute|landlocksys.AccessFSReadFile, interpreter).IgnoreIfMissing()
		return append(readable(libraries), rule)
	}
	return nil
}

// linkedDirs returns the directories below /run to which a link leads: what keeps a file
// there replaces it when the network changes.
func linkedDirs(path string) []string {
	if target, err := filepath.EvalSymlinks(path); err == nil && strings.HasPrefix(target, "/run/") {
		if dir := filepath.Dir(target); dir != "/run" {
			return []string{dir}
		}
	}
	return nil
}
