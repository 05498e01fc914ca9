package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"waterproxy/internal/ptproc"
	"waterproxy/internal/pttest"
)

// A repository to which there is no direct way is reached through a proxy, and nothing goes
// past that: neither a connection nor the question for the repository's name. What wants to
// has no route, and the kernel counts it.
func TestRoadBlocked(t *testing.T) {
	t.Parallel()
	if !inOwnNetwork(t) {
		return
	}
	const host, name = "10.201.0.1", "modules.example"
	run(t, "ip", "address", "add", host+"/32", "dev", "lo")
	i := newIsland(t)
	r := newRoad(t)
	r.add("1.0", plainVersion(t, 1))
	r.sign()
	_, port := freeAddress(t)
	repository := net.JoinHostPort(host, port)
	trust := ptproc.Variables{"SSL_CERT_FILE": startNginx(t, r.dir, repository, host, name)}

	// The proxy alone knows the name, and the island asks for names far away.
	hosts, resolver := r.file("hosts"), r.file("resolv.conf")
	writeFile(t, hosts, []byte(host+" "+name+"\n"))
	writeFile(t, resolver, []byte("nameserver 10.202.0.1\n"))
	_, socksPort := freeAddress(t)
	proxy := net.JoinHostPort(mainland, socksPort)
	knowing := seeing(t, program(t, "microsocks"), hosts, "/etc/hosts")
	startDaemon(t, proxy, knowing, "-i", mainland, "-p", socksPort)
	islander := i.executable(seeing(t, waterproxy(t), resolver, "/etc/resolv.conf"), `"$@"`)
	start := func(where string, more ...string) *pttest.Process {
		return startProgram(t, islander, ptproc.Client(t.TempDir(), ferry).With(trust),
			append([]string{"-from", "https://" + net.JoinHostPort(where, port), "-root", r.root, "-every", "1s"}, more...)...)
	}

	for where, why := range map[string]string{host: "network is unreachable", name: name + `.*network is unreachable`} {
		before := i.strayed()
		p := start(where)
		p.Line("^CMETHOD-ERROR " + ferry + " .*" + why)
		p.Line("no news of the repository can be had.*" + why)
		if i.strayed() == before {
			t.Errorf("%s: what goes the direct way is not counted", where)
		}
		end(t, p)
	}

	before := i.strayed()
	behind, err := net.Listen("tcp", net.JoinHostPort(mainland, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer behind.Close()
	var processes []*pttest.Process
	var lines []line
	connect := func() {
		for _, p := range processes {
			socks := p.Address(ferry)
			if err := i.do(func() error {
				near, err := dialSOCKS(socks, "", behind.Addr().String())
				if err == nil {
					lines = append(lines, line{pttest.Own(t, near), pttest.Accept(t, behind)})
				}
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range lines {
			pttest.Echo(t, l.near, l.far)
		}
	}
	for _, where := range []string{host, name} {
		processes = append(processes, start(where, "-via", "socks5://"+proxy))
	}
	// tor's own proxy serves as well.
	torrc := ptproc.Client(t.TempDir(), ferry).With(trust).With(ptproc.Variables{"TOR_PT_PROXY": "socks5://" + proxy})
	processes = append(processes, startProgram(t, islander, torrc, "-from", "https://"+net.JoinHostPort(name, port), "-root", r.root, "-every", "1s"))
	connect()
	sum := r.add("2.0", plainVersion(t, 2))
	r.sign()
	for _, p := range processes {
		uses(p, sum, 1)
	}
	connect()
	if now := i.strayed(); now != before {
		t.Errorf("%d times something wanted to go past the proxy", now-before)
	}
}

// withoutLandlock runs a program in a system of which the kernel seems to have no Landlock:
// landlock_create_ruleset is not there.
const withoutLandlock = `import ctypes, os, struct, sys
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x50000 | 38), (0x06, 0, 0, 0x7fff0000)]
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None)
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_void_p] * 4
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(Program(len(code), ctypes.addressof(text))), 0, 0):
    sys.exit("there is no seccomp")
os.execv(sys.argv[1], sys.argv[1:])
`

// Without Landlock the walls let a process start no other; it looks at its repository all
// the same.
func TestRoadWithoutLandlock(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	r.add("1.0", plainVersion(t, 1))
	r.sign()
	script := r.file("without.py")
	writeFile(t, script, []byte(withoutLandlock))
	client := startProgram(t, program(t, "python3"), ptproc.Client(t.TempDir(), ferry),
		script, waterproxy(t), "-from", r.dir, "-root", r.root, "-every", "0")
	client.Address(ferry)
	client.Line("a repository is looked at without limits")
	sum := r.add("2.0", plainVersion(t, 2))
	r.sign()
	client.Send(syscall.SIGHUP)
	uses(client, sum, 1)
}

// seeing returns a program that runs another one for which a file is in the place of a file
// of the system.
func seeing(t *testing.T, path, file, place string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "program")
	text := fmt.Sprintf("#!/bin/sh\nexec unshare --mount -- sh -c 'mount --bind %s %s && exec %s \"$@\"' sh \"$@\"\n", file, place, path)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}
