package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"waterproxy/transport/testmodules"
)

// fate is what becomes of a module that is no good.
type fate int

const (
	refused  fate = iota // Compile fails
	roleless             // there is no dialer, or no dialing, before any network traffic
	unborn               // dialing fails
	lives                // it carries bytes
	dies                 // it fails while it works
	closes               // it ends the caller's stream, then fails
	ends                 // it ends cleanly by itself, at once
	hangs                // it neither carries bytes nor ends
)

// evil says for every ill-behaved module what becomes of it, and which error
// tells. A name without version stands for all its versions.
var evil = map[string]struct {
	fate  fate
	layer error
}{
	"evil_none":                {refused, ErrModule},
	"evil_noroles":             {roleless, ErrRole},
	"evil_noinit":              {refused, ErrModule},
	"evil_noctrlpipe":          {refused, ErrModule},
	"evil_nostart":             {refused, ErrModule},
	"evil_dial_i64":            {roleless, ErrRole},
	"evil_dial_noarg":          {roleless, ErrRole},
	"evil_dial_f32":            {roleless, ErrRole},
	"evil_start_arg":           {refused, ErrModule},
	"evil_init_void":           {refused, ErrModule},
	"evil_ctrlpipe_void":       {refused, ErrModule},
	"evil_import_env":          {refused, ErrModule},
	"evil_import_wasi":         {refused, ErrModule},
	"evil_import_module":       {refused, ErrModule},
	"evil_import_type":         {refused, ErrModule},
	"evil_import_memory":       {refused, ErrModule},
	"evil_huge_memory":         {unborn, ErrLimit},
	"evil_both_abis":           {lives, nil},
	"evil_trap_initialize":     {unborn, ErrTrap},
	"evil_start_exit0":         {lives, nil},
	"evil_start_exit3":         {unborn, ErrModule},
	"evil_start_spin":          {unborn, ErrLimit},
	"evil_trap_init":           {unborn, ErrTrap},
	"evil_init_eperm":          {unborn, ErrModule},
	"evil_init_minint":         {unborn, ErrModule},
	"evil_init_spin":           {unborn, ErrLimit},
	"evil_trap_dial":           {unborn, ErrTrap},
	"evil_dial_badfd":          {unborn, ErrModule},
	"evil_dial_maxfd":          {unborn, ErrModule},
	"evil_dial_stdout":         {unborn, ErrModule},
	"evil_dial_caller":         {unborn, ErrModule},
	"evil_dial_enotconn":       {unborn, ErrModule},
	"evil_dial_spin":           {unborn, ErrLimit},
	"evil_dial_poll":           {unborn, ErrLimit},
	"evil_dial_many":           {unborn, ErrLimit},
	"evil_dial_anywhere":       {lives, nil},
	"evil_accept_in_dial":      {lives, nil},
	"evil_ctrlpipe_eio":        {unborn, ErrModule},
	"evil_trap_worker":         {dies, ErrTrap},
	"evil_exit0":               {dies, ErrModule},
	"evil_exit3":               {dies, ErrModule},
	"evil_return_0":            {ends, nil},
	"evil_return_5":            {ends, nil},
	"evil_return_eio":          {dies, ErrModule},
	"evil_return_ecanceled":    {dies, ErrModule},
	"evil_return_unknown":      {dies, ErrModule},
	"evil_spin":                {hangs, nil},
	"evil_spin_poll":           {hangs, nil},
	"evil_sleep":               {hangs, nil},
	"evil_ignore_control":      {lives, nil},
	"evil_flood":               {hangs, nil},
	"evil_flood_caller":        {hangs, nil},
	"evil_memory":              {lives, nil},
	"evil_recursion":           {dies, ErrTrap},
	"evil_stdout_lines":        {hangs, nil},
	"evil_stderr_lines":        {hangs, nil},
	"evil_stdout_line":         {hangs, nil},
	"evil_stderr_line":         {hangs, nil},
	"evil_stdio_pt":            {lives, nil},
	"evil_close_foreign":       {lives, nil},
	"evil_close_own":           {closes, ErrModule},
	"evil_renumber":            {lives, nil},
	"evil_files":               {lives, nil},
	"evil_environ":             {lives, nil},
	"evil_pointers":            {lives, nil},
	"evil_pointers_late":       {lives, nil},
	"evil_iovecs":              {lives, nil},
	"evil_poll_odd":            {lives, nil},
	"evil_many":                {roleless, ErrRole}, // see TestEvilMany
	"evil_threads_trap":        {dies, ErrTrap},
	"evil_threads_exit":        {dies, ErrModule},
	"evil_threads_stack":       {dies, ErrTrap},
	"evil_threads_pointer":     {dies, ErrTrap},
	"evil_threads_bomb":        {hangs, nil},
	"evil_threads_spin":        {hangs, nil},
	"evil_threads_wait":        {hangs, nil},
	"evil_threads_read":        {hangs, nil},
	"evil_threads_private":     {refused, ErrModule},
	"evil_threads_imported":    {refused, ErrModule},
	"evil_threads_nostart":     {refused, ErrModule},
	"evil_threads_half_worker": {refused, ErrModule},
	"bad_empty":                {refused, ErrModule},
	"bad_text":                 {refused, ErrModule},
	"bad_magic_only":           {refused, ErrModule},
	"bad_header_only":          {refused, ErrModule},
	"bad_version":              {refused, ErrModule},
	"bad_component":            {refused, ErrModule},
	"bad_section_length":       {refused, ErrModule},
	"bad_truncated":            {refused, ErrModule},
	"bad_trailing":             {refused, ErrModule},
	"bad_body":                 {refused, ErrModule},
}

// computes reports whether a module is one that runs without calling the host:
// hard to stop, and in the way of the garbage collector.
func computes(name string) bool {
	return strings.Contains(name, "spin") && !strings.Contains(name, "poll") || strings.Contains(name, "recursion")
}

func stem(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, "_v0"), "_v1")
}

// evilConfig has small limits. What hangs is over soon; what does not has time enough.
func evilConfig(t testing.TB, name string, want fate, layer error) Config {
	cfg := testConfig(t, name)
	if want == unborn && (layer == ErrLimit || layer == nil) {
		cfg.SetupTimeout = 300 * time.Millisecond
	}
	if want == hangs {
		cfg.DrainTimeout = 300 * time.Millisecond
	}
	cfg.MaxMemory = 16 << 20
	cfg.ModuleConfig = []byte("a configuration")
	return cfg
}

func TestEvil(t *testing.T) {
	names := append(testmodules.Names(t, "evil_"), testmodules.Names(t, "bad_")...)
	stop := witness(t)
	for _, name := range names {
		if computes(name) {
			continue
		}
		t.Run(name, func(t *testing.T) { testEvil(t, name) })
	}
	stop()
}

// TestEvilComputes runs in a process of its own: a module that computes for ever
// could bring the whole process to a halt, the test's own clock included.
func TestEvilComputes(t *testing.T) {
	if child, _ := inChild(t, patience); !child {
		return
	}
	stop := witness(t)
	collecting := make(chan struct{})
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for {
			select {
			case <-collecting:
				return
			case <-time.After(10 * time.Millisecond):
				runtime.GC()
			}
		}
	}()
	for _, name := range testmodules.Names(t, "evil_") {
		if computes(name) {
			t.Run(name, func(t *testing.T) { testEvil(t, name) })
		}
	}
	close(collecting)
	<-collected
	stop()
}

func testEvil(t *testing.T, name string) {
	want, known := evil[stem(name)]
	if !known {
		t.Fatal("the table does not have it")
	}
	m, err := Compile(testmodules.Load(t, name), CompileOptions{CacheDir: cacheDir})
	if want.fate == refused {
		if !errors.Is(err, want.layer) {
			t.Errorf("Compile says %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	cfg := evilConfig(t, "plain_v1", want.fate, want.layer)
	cfg.Module = m
	l := loopback(t)
	d, err := NewRuntimeConnDialer(cfg)
	var near Conn
	var far duplex
	if err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		within(t, "dialing", func() { near, far, err = dialLink(t, d, l)(ctx) })
	}
	if want.fate == roleless || want.fate == unborn {
		if !errors.Is(err, want.layer) {
			t.Errorf("dialing says %v", err)
		}
		if err == nil {
			near.Abort()
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	// Twice: one connection is closed, one aborted.
	checkFate(t, near, far, want.fate, want.layer)
	if want.fate != hangs { // else Close waits half a second for the peer
		far.Close()
	}
	within(t, "Close", func() { near.Close() })
	far.Close()
	within(t, "ending after Close", func() { <-near.Done() })
	near, far, err = dialLink(t, d, loopback(t))(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	within(t, "Abort", func() { near.Abort() })
	<-near.Done()
}

// checkFate sees what becomes of a connection.
func checkFate(t *testing.T, near Conn, far duplex, want fate, layer error) {
	t.Helper()
	const text = "a line of text for a module"
	far.SetDeadline(time.Now().Add(patience))
	near.SetDeadline(time.Now().Add(patience))
	switch want {
	case lives:
		if err := carries(near, far, text); err != nil {
			t.Error(err)
		}
	case dies, closes, ends:
		// Bytes that a module may want to see before it fails.
		_, _ = near.Write(pattern(1).bytes(8192))
		_, err := io.Copy(io.Discard, near)
		if want == ends && err != nil || want == dies && !errors.Is(err, layer) {
			t.Errorf("reading says %v", err)
		}
		within(t, "the end", func() {
			far.Close()
			<-near.Done()
		})
		if err := near.Err(); want == ends && err != nil || want != ends && !errors.Is(err, layer) {
			t.Errorf("it ended with %v", err)
		}
	case hangs:
		_, _ = near.Write([]byte(text))
		select {
		case <-near.Done():
			t.Errorf("it ended: %v", near.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// carries reads a report, if there is one, and sends text both ways.
func carries(near Conn, far duplex, text string) error {
	if _, err := io.WriteString(near, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(far, got); err != nil || string(got) != text {
		return fmt.Errorf("got %q: %w", got, err)
	}
	if _, err := io.WriteString(far, text); err != nil {
		return err
	}
	var all strings.Builder
	for !strings.HasSuffix(all.String(), text) {
		n, err := near.Read(got)
		all.Write(got[:n])
		if err != nil {
			return fmt.Errorf("after %q: %w", all.String(), err)
		}
	}
	if rest := strings.TrimSuffix(all.String(), text); rest != "" && !strings.HasSuffix(rest, "\nend\n") {
		return fmt.Errorf("got %q", rest)
	}
	return nil
}

// witness keeps a good connection busy until stop is called. Whatever else goes
// on in the process, it has to work all the time.
func witness(t *testing.T) (stop func()) {
	near, far := clientLink(t, quietConfig(t, "plain_v1")).connect(t)
	halt := make(chan struct{})
	done := make(chan struct{})
	rounds := 0
	go func() {
		defer close(done)
		for {
			select {
			case <-halt:
				return
			default:
			}
			deadline := time.Now().Add(patience)
			near.SetDeadline(deadline)
			far.SetDeadline(deadline)
			if err := carries(near, far, fmt.Sprintf("round trip %d", rounds)); err != nil {
				t.Errorf("another connection suffered: %v", err)
				return
			}
			rounds++
			time.Sleep(time.Millisecond) // leave the processor to the others
		}
	}()
	return func() {
		close(halt)
		<-done
		if rounds == 0 {
			t.Error("another connection did not get a single round trip")
		}
	}
}
