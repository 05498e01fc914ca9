package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/pttest"
)

// hostile is something that a module does.
type hostile struct {
	name string
	body func(*builder) string
	// want is the kind of error by which its connection ends.
	want error
	// says is in the text of the error, "" for anything: "unreachable" means that the module
	// has gone on behind what it did, and only then has trapped by itself.
	says string
}

// goesOn is something that a module may do, and that comes to nothing.
func goesOn(name string, body func(*builder) string) hostile {
	return hostile{name, func(b *builder) string { return body(b) + insUnreachable }, ErrTrap, "unreachable"}
}

func code(s string) func(*builder) string { return func(*builder) string { return s } }

// hostiles are what is done at each stage.
var hostiles = []hostile{
	{"trap", code(insUnreachable), ErrTrap, "unreachable"},
	{"divide by zero", code(constant(1) + constant(0) + "\x6d" + insDrop), ErrTrap, "divide"},
	{"overflow", code(constant(-1<<31) + constant(-1) + "\x6d" + insDrop), ErrTrap, "overflow"},
	{"convert no number", code(nan + "\xaa" + insDrop), ErrTrap, ""},
	{"read past the memory", code(constant(-1) + "\x28\x02\x00" + insDrop), ErrTrap, "out of bounds"},
	{"write past the memory", code(constant(-16) + constant(1) + "\x36\x02\x0f"), ErrTrap, "out of bounds"},
	{"call nothing", code(constant(1) + "\x11\x00\x00" + insDrop), ErrTrap, ""},
	{"call past the table", code(constant(1<<20) + "\x11\x00\x00" + insDrop), ErrTrap, ""},
	{"recurse", (*builder).recurse, ErrTrap, "overflow"},
	{"exit 0", func(b *builder) string { return b.call(wasiModule+"proc_exit i", constant(0)) }, ErrModule, "exit"},
	{"exit 3", func(b *builder) string { return b.call(wasiModule+"proc_exit i", constant(3)) }, ErrModule, "3"},
	{"exit -1", func(b *builder) string { return b.call(wasiModule+"proc_exit i", constant(-1)) }, ErrModule, ""},
	{"spin", code(forever("")), ErrLimit, ""},
	{"ask for the time for ever", func(b *builder) string {
		return forever(b.call(wasiModule+"clock_time_get iIi:i", constant(1), long(1), constant(scratchAt)) + insDrop)
	}, ErrLimit, ""},
	{"yield for ever", func(b *builder) string { return forever(b.call(wasiModule+"sched_yield :i") + insDrop) }, ErrLimit, ""},
	{"make random numbers for ever", func(b *builder) string {
		return forever(b.call(wasiModule+"random_get ii:i", constant(0), constant(pageSize)) + insDrop)
	}, ErrLimit, ""},
	{"copy memory for ever", code(forever(constant(0) + constant(pageSize) + constant(pageSize) + "\xfc\x0a\x00\x00")), ErrLimit, ""},
	{"fill memory in a straight line for ever", code(constant(16) + "\x40\x00" + insDrop + forever(strings.Repeat(fill, 2000))), ErrLimit, ""},
	{"fill memory for ever", code(constant(16) + "\x40\x00" + insDrop + forever(fill)), ErrLimit, ""},
	{"run long code for ever", code(forever(divisions(50_000))), ErrLimit, ""},
	{"call long code for ever", func(b *builder) string {
		b.leaf = divisions(50_000)
		return forever(strings.Repeat(b.callLeaf(), 20_000))
	}, ErrLimit, ""},
	{"call short code for ever", func(b *builder) string {
		b.leaf = divisions(120)
		return forever(strings.Repeat(b.callLeaf(), 20_000))
	}, ErrLimit, ""},
	{"log for ever", func(b *builder) string {
		at := b.vector(strings.Repeat("a line that nobody reads\n", 40))
		return forever(b.call(wasiModule+"fd_write iiii:i", constant(2), constant(at), constant(1), constant(scratchAt)) + insDrop)
	}, ErrLimit, ""},
	{"sleep for ever", func(b *builder) string {
		var sub [48]byte
		sub[16] = 1 // the monotonic clock
		binary.LittleEndian.PutUint64(sub[24:], 1<<63)
		at, _ := b.put(string(sub[:]))
		return b.call(wasiModule+"poll_oneoff iiii:i", constant(at), constant(scratchAt), constant(1), constant(scratchAt)) + insDrop
	}, ErrLimit, ""},
	goesOn("grow the memory", code(until(constant(16)+"\x40\x00", -1))),
	goesOn("grow the table", code(until("\xd0\x70"+constant(1000)+"\xfc\x0f\x00", -1))),
	goesOn("grow the table by everything", code("\xd0\x70"+constant(-1)+"\xfc\x0f\x00"+insDrop)),
	goesOn("close all descriptors", func(b *builder) string { return eachDescriptor(b, "fd_close i:i") }),
	goesOn("renumber all descriptors", func(b *builder) string {
		return eachDescriptor(b, "fd_renumber ii:i", constant(0)) + eachDescriptor(b, "fd_renumber ii:i", constant(5))
	}),
	goesOn("shut down all descriptors", func(b *builder) string { return eachDescriptor(b, "sock_shutdown ii:i", constant(3)) }),
	goesOn("make all descriptors block", func(b *builder) string { return eachDescriptor(b, "fd_fdstat_set_flags ii:i", constant(0)) }),
	goesOn("open its configuration until that fails", func(b *builder) string {
		name, n := b.put("watm.cfg")
		open := func(dir int32) string {
			return b.call(wasiModule+"path_open iiiiiIIii:i", constant(dir), constant(1), constant(name), constant(n), constant(0), long(2), long(0), constant(0), constant(scratchAt))
		}
		body := ""
		for range 100 {
			body += open(3) + insDrop + open(4) + insDrop
		}
		return body
	}),
	goesOn("name a path as long as its memory", func(b *builder) string {
		return b.call(wasiModule+"path_filestat_get iiiii:i", constant(3), constant(0), constant(0), constant(2*pageSize), constant(scratchAt)) + insDrop
	}),
	goesOn("write method lines", func(b *builder) string {
		at := b.vector("\nCMETHOD " + forgery + " socks5 127.0.0.1:1\nCMETHODS DONE\n")
		return b.call(wasiModule+"fd_write iiii:i", constant(1), constant(at), constant(1), constant(scratchAt)) + insDrop +
			b.call(wasiModule+"fd_write iiii:i", constant(2), constant(at), constant(1), constant(scratchAt)) + insDrop
	}),
	{"use keys that it has not made", func(b *builder) (body string) {
		for handle := range int32(50) {
			body += b.call("water_crypto_v1.aead_seal iiiiiiii:i", constant(handle), constant(0), constant(12), constant(0), constant(0), constant(0), constant(16), constant(dataAt)) +
				"\x41\x00\x4e\x04\x40" + b.call(wasiModule+"proc_exit i", constant(77)) + insEnd
		}
		return body + insUnreachable
	}, ErrTrap, "unreachable"},
	goesOn("poll everything", func(b *builder) string {
		return b.call(wasiModule+"poll_oneoff iiii:i", constant(0), constant(pageSize), constant(1<<20), constant(scratchAt)) + insDrop
	}),
	goesOn("accept", func(b *builder) string {
		return strings.Repeat(b.call(wasiModule+"sock_accept iii:i", constant(3), constant(0), constant(scratchAt))+insDrop, 20)
	}),
	goesOn("fill its state directory", func(b *builder) string {
		body := ""
		for i := range 30 {
			name, n := b.put(fmt.Sprintf("state/%d", i))
			at := b.vector(strings.Repeat("x", 4<<10))
			open := b.call(wasiModule+"path_open iiiiiIIii:i", constant(3), constant(0), constant(name), constant(n), constant(1), long(1<<6|1<<8|1<<22), long(0), constant(0), constant(scratchAt))
			body += open + insDrop
			for range 10 {
				body += b.call(wasiModule+"fd_write iiii:i", constant(scratchAt)+"\x28\x02\x00", constant(at), constant(1), constant(scratchAt+8)) + insDrop
			}
		}
		return body
	}),
}

// forgery is a name that must not be on standard output.
const forgery = "forged_by_a_module"

// eachDescriptor calls a function with each of the first descriptors, and with some that
// nobody has.
func eachDescriptor(b *builder, function string, more ...string) (body string) {
	for _, fd := range append(firstDescriptors(), 1000, 1<<30, -1, -1<<31) {
		body += b.call(wasiModule+function, append([]string{constant(fd)}, more...)...) + insDrop
	}
	return body
}

func firstDescriptors() (fds []int32) {
	for fd := range int32(20) {
		fds = append(fds, fd)
	}
	return fds
}

// hostFunctions are all that modules can import, but for proc_exit: WASI's of preview 1, those
// of the v1 ABI and those of docs/crypto.md.
var hostFunctions = strings.Fields(`
args_get/ii args_sizes_get/ii environ_get/ii environ_sizes_get/ii clock_res_get/ii clock_time_get/iIi
fd_advise/iIIi fd_allocate/iII fd_close/i fd_datasync/i fd_fdstat_get/ii fd_fdstat_set_flags/ii fd_fdstat_set_rights/iII
fd_filestat_get/ii fd_filestat_set_size/iI fd_filestat_set_times/iIIi fd_pread/iiiIi fd_prestat_get/ii fd_prestat_dir_name/iii
fd_pwrite/iiiIi fd_read/iiii fd_readdir/iiiIi fd_renumber/ii fd_seek/iIii fd_sync/i fd_tell/ii fd_write/iiii
path_create_directory/iii path_filestat_get/iiiii path_filestat_set_times/iiiiIIi path_link/iiiiiii path_open/iiiiiIIii
path_readlink/iiiiii path_remove_directory/iii path_rename/iiiiii path_symlink/iiiii path_unlink_file/iii poll_oneoff/iiii
proc_raise/i random_get/ii sched_yield/ sock_accept/iii sock_recv/iiiiii sock_send/iiiii sock_shutdown/ii
env.water_dial/iiii env.water_dial_fixed/ env.water_accept/
water_crypto_v1.secretbox_seal/iiiii water_crypto_v1.secretbox_open/iiiii water_crypto_v1.secretbox_seal_many/iii
water_crypto_v1.secretbox_open_many/iii water_crypto_v1.salsa20_xor/iiiiii water_crypto_v1.chacha20_xor/iiiiiii
water_crypto_v1.aes_ctr_xor/iiiiii water_crypto_v1.aead_new/iii water_crypto_v1.aead_seal/iiiiiiii water_crypto_v1.aead_open/iiiiiiii
water_crypto_v1.aead_free/i water_crypto_v1.aead_seal_many/iii water_crypto_v1.aead_open_many/iii water_crypto_v1.hash/iiii
water_crypto_v1.hmac/iiiiii water_crypto_v1.hkdf/iiiiiiiii water_crypto_v1.blake3_derive_key/iiiiii water_crypto_v1.x25519/iii
water_crypto_v1.elligator2_key/iiii water_crypto_v1.elligator2_public/ii`)

// numbers are arguments that no honest module gives together: pointers past the end and at
// it, lengths that wrap, counts whose arrays have no place.
var numbers = []int64{0, 1, 3, 4, 5, 8, pageSize - 4, 2*pageSize - 8, 2*pageSize - 1, 2 * pageSize, 0x0555_5556, 0x2000_0001, 1 << 30, 1<<31 - 1, -1 << 31, -8, -1, 1 << 62, -1 << 63}

// misuses calls each function of the host with such arguments: all the same, and each
// mixture of two that differ by the place.
func misuses() (all []hostile) {
	for _, f := range hostFunctions {
		name, params, _ := strings.Cut(f, "/")
		if !strings.Contains(name, ".") {
			name = wasiModule + name
		}
		all = append(all, goesOn(name, func(b *builder) (body string) {
			call := func(at func(place int) int64) {
				var args []string
				for place, kind := range params {
					if n := at(place); kind == 'I' {
						args = append(args, long(n))
					} else {
						args = append(args, constant(int32(n)))
					}
				}
				body += b.call(name+" "+params+":i", args...) + insDrop
			}
			for i, n := range numbers {
				call(func(int) int64 { return n })
				call(func(place int) int64 { return numbers[(i+place)%len(numbers)] })
				call(func(place int) int64 { return numbers[(i+5*place)%len(numbers)] })
				// The descriptor is one that it has, and what comes first is in its memory.
				call(func(place int) int64 { return []int64{3, scratchAt, n, 1, n, n, n, n, n}[place] })
				call(func(place int) int64 { return []int64{4, n, scratchAt, n, 1, n, n, n, n}[place] })
			}
			return body
		}))
	}
	return all
}

// ungranted are addresses of this machine, and of its network, in many notations. %d is a
// port at which somebody listens.
var ungranted = []string{
	"127.0.0.1:%d", "127.1:%d", "127.0.1:%d", "2130706433:%d", "0x7f000001:%d", "0x7f.0.0.1:%d", "0177.0.0.1:%d", "017700000001:%d", "127.0.0.1.:%d",
	"127.000.000.001:%d", "localhost:%d", "LOCALHOST:%d", "localhost.:%d", "localhost.localdomain:%d", "ip6-localhost:%d", "0.0.0.0:%d", "0:%d", ":%d",
	"[::1]:%d", "[0:0:0:0:0:0:0:1]:%d", "[::]:%d", "[::ffff:127.0.0.1]:%d", "[::ffff:7f00:1]:%d", "[0:0:0:0:0:ffff:7f00:1]:%d", "[::127.0.0.1]:%d",
	"[64:ff9b::127.0.0.1]:%d", "[64:ff9b::7f00:1]:%d", "[64:ff9b:1::7f00:1]:%d", "[2002:7f00:1::]:%d", "[fe80::1%%lo]:%d", "[::1%%lo]:%d", "::1:%d",
	"169.254.169.254:80", "10.0.0.1:80", "192.168.0.1:80", "172.16.0.1:80", "100.64.0.1:80", "224.0.0.1:80", "255.255.255.255:80", "[ff02::1]:80", "[fc00::1]:80",
	"127.0.0.1:%d\x00.example", "example\x00@127.0.0.1:%d", " 127.0.0.1:%d", "127.0.0.1:%d ", "127.0.0.1:%d\n", "user@127.0.0.1:%d", "http://127.0.0.1:%d/",
	"127.0.0.1:%d:%[1]d", "127.0.0.1:+%d", "127.0.0.1:0%d", "127.0.0.1", "127.0.0.1:", "", "%%31%%32%%37.0.0.1:%d", "①②⑦.0.0.1:%d", "127。0。0。1:%d",
}

// dials ask for these addresses; each must be refused.
func dials(port int) (all []hostile) {
	for _, address := range ungranted {
		if strings.Contains(address, "%") {
			address = fmt.Sprintf(address, port)
		}
		for _, network := range []string{"tcp", "tcp4", "udp"} {
			all = append(all, hostile{network + " " + address, func(b *builder) string {
				net, addr := b.vector(network), b.vector(address)
				granted := "\x41\x00\x4e" // it is not negative
				return b.refusedOr(b.call("env.water_dial iiii:i", constant(net), constant(1), constant(addr), constant(1)), granted)
			}, ErrTrap, "unreachable"})
		}
	}
	for _, network := range []string{"unix", "unixgram", "ip", "ip4:1", "TCP", "tcp\x00", ""} {
		all = append(all, hostile{"network " + network, func(b *builder) string {
			net, addr := b.vector(network), b.vector("/run/docker.sock")
			return b.refusedOr(b.call("env.water_dial iiii:i", constant(net), constant(1), constant(addr), constant(1)), "\x41\x00\x4e")
		}, ErrTrap, "unreachable"})
	}
	return all
}

// suite counts what is tried, and how long each takes to end.
type suite struct {
	t      *testing.T
	state  string
	bridge *net.TCPListener
	tries  int
	took   []time.Duration
	slow   string
}

// TestHostile: whatever a module does, at whatever stage, it costs its own connection and
// no other, which ends with the right error; nothing of the host's is left behind, nothing
// was written to standard output, and nobody was dialed.
func TestHostile(t *testing.T) {
	child, stdout := inChild(t, 2*patience)
	if !child {
		if bytes.Contains(stdout, []byte(forgery)) {
			t.Error("a module has written to standard output")
		}
		for line := range strings.Lines(string(stdout)) {
			if strings.Contains(line, "hostile modules") {
				t.Log(strings.TrimSpace(line))
			}
		}
		return
	}
	s := &suite{t: t, state: t.TempDir(), bridge: loopback(t)}
	stop := witness(t)
	target := loopback(t)
	s.try("start", hostiles[0]) // what a first one makes, and keeps
	before := usage(t)
	for _, stage := range hostileStages {
		for _, h := range hostiles {
			if h.name == "exit 0" && (stage == "section" || stage == "initialize") {
				continue // a program has ended well by that, and its module goes on
			}
			s.try(stage, h)
		}
	}
	for _, h := range misuses() {
		s.try("start", h)
		s.try("accept", h)
	}
	for _, h := range dials(target.Addr().(*net.TCPAddr).Port) {
		s.try("init", h)
	}
	target.SetDeadline(time.Now()) // what is waiting by now is returned
	if conn, err := target.Accept(); err == nil {
		t.Errorf("somebody was dialed: %v", conn.LocalAddr())
	}
	stop()
	waitForUsage(t, before)
	slices.Sort(s.took)
	fmt.Printf("%d hostile modules, each ended %v after it could in the middle, and %v at most (%s)\n", len(s.took), s.took[len(s.took)/2], s.took[len(s.took)-1], s.slow)
}

// hostileLimit is the time that a set-up may take.
const hostileLimit = 100 * time.Millisecond

// try makes a module and sees what becomes of it.
func (s *suite) try(stage string, h hostile) {
	t := s.t
	t.Helper()
	s.tries++
	if every := pttest.Count(1, 3); (s.tries-1)%every != 0 { // the race detector makes each slow
		return
	}
	name := stage + ": " + h.name
	b := &builder{}
	m, err := Compile(b.module(stage, h.body(b)), CompileOptions{})
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	defer m.Close()
	cfg := Config{
		Module: m, Instances: InstancePerConn, ModuleConfig: []byte("a configuration"), StateDir: filepath.Join(s.state, fmt.Sprint(len(s.took))),
		SetupTimeout: patience, DrainTimeout: hostileLimit, MaxMemory: 16 << 20, MaxState: 64 << 10, MaxStateFiles: 10,
		Logger: slog.New(slog.DiscardHandler),
	}
	if h.want == ErrLimit && !works(stage) {
		cfg.SetupTimeout = hostileLimit
	}
	if err := os.Mkdir(cfg.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if stage == "accept" {
		err = s.asServer(cfg, h)
	} else {
		err = s.asClient(cfg, stage, h)
	}
	took := time.Since(began)
	if s.took = append(s.took, took); took == slices.Max(s.took) {
		s.slow = name
	}
	if !errors.Is(err, h.want) || !strings.Contains(fmt.Sprint(err), h.says) {
		t.Errorf("%s: it ended with %v", name, err)
	}
	if files, err := os.ReadDir(cfg.StateDir); err != nil || len(files) > cfg.MaxStateFiles {
		t.Errorf("%s: %d files of state, %v", name, len(files), err)
	}
}

// asClient returns the error by which a client's connection ends.
func (s *suite) asClient(cfg Config, stage string, h hostile) error {
	d, err := NewRuntimeConnDialer(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _ := s.bridge.Accept()
		accepted <- conn
	}()
	defer func() {
		s.bridge.SetDeadline(time.Now())
		if conn := <-accepted; conn != nil {
			conn.Close()
		}
		s.bridge.SetDeadline(time.Time{})
	}()
	conn, err := d.Dial(ctx, "tcp", s.bridge.Addr().String(), nil)
	if err != nil {
		return err
	}
	if !works(stage) {
		conn.Abort()
		return fmt.Errorf("it was set up")
	}
	return s.ending(conn, h)
}

// ending returns the error of a connection that is up. One that would go on for ever is
// aborted, and then that is its end.
func (s *suite) ending(conn Conn, h hostile) error {
	_, _ = conn.Write([]byte("bytes to wait for"))
	if h.want == ErrLimit {
		select {
		case <-conn.Done():
			return conn.Err()
		case <-time.After(20 * time.Millisecond): // it goes on
		}
		within(s.t, "aborting", func() { conn.Abort(); <-conn.Done() })
		return ErrLimit
	}
	within(s.t, "the end", func() { <-conn.Done() })
	return conn.Err()
}

// asServer returns the error by which the set-up of a server's connection fails; whoever
// connected sees no byte.
func (s *suite) asServer(cfg Config, h hostile) error {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := Listen(s.t.Context(), cfg, inner)
	if err != nil {
		return err
	}
	defer l.Close()
	prober, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer prober.Close()
	_, _ = prober.Write(pattern(1).bytes(100))
	prober.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(prober)
	if len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		s.t.Errorf("accept: %s: a prober got %q, %v", h.name, got, err)
	}
	await(s.t, "the failure to be counted", func() bool { return l.Stats().Refused+l.Stats().Failures+l.Stats().Traps+l.Stats().Limits > 0 })
	switch stats := l.Stats(); {
	case stats.Traps > 0:
		return fmt.Errorf("%w: %s", ErrTrap, h.says)
	case stats.Limits > 0:
		return ErrLimit
	}
	return fmt.Errorf("%w: %s", ErrModule, h.says)
}

// TestNameResolvesAnew: a name that is granted, and that stands for another address the next
// time, is looked up once for each connection, and what was found is what is dialed.
func TestNameResolvesAnew(t *testing.T) {
	b := &builder{}
	network, address := b.vector("tcp"), b.vector("granted.example:443")
	body := ""
	for range 3 {
		body += b.call("env.water_dial iiii:i", constant(network), constant(1), constant(address), constant(1)) + insDrop
	}
	m, err := Compile(b.module("init", body+insUnreachable), CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	rule, err := ParseAddressRule("granted.example:443")
	if err != nil {
		t.Fatal(err)
	}
	cfg := quietConfig(t, "plain_v1")
	cfg.Module, cfg.Allow = m, []AddressRule{rule}
	answers := []string{"93.184.216.34", "127.0.0.1", "93.184.216.35"}
	asked := 0
	cfg.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		asked++
		return []netip.Addr{netip.MustParseAddr(answers[(asked-1)%len(answers)])}, nil
	}
	var dialed []string
	cfg.Dial = func(_ context.Context, _, address string) (net.Conn, error) {
		dialed = append(dialed, address)
		return nil, errors.New("nobody is there")
	}
	d, err := NewRuntimeConnDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Dial(t.Context(), "tcp", "127.0.0.1:1", nil); !errors.Is(err, ErrTrap) {
		t.Errorf("it ended with %v", err)
	}
	if want := []string{"93.184.216.34:443", "93.184.216.35:443"}; asked != 3 || !slices.Equal(dialed, want) {
		t.Errorf("it was looked up %d times, and dialed were %q, want %q", asked, dialed, want)
	}
}
