package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// One process serves several transports, each at the address it was given.
func TestPTSpec_3_3_3_BindAddresses(t *testing.T) {
	orPort := listen(t)
	p := launch(t, serverVariables("a,b,c", orPort.Addr().String()).with(variables{
		"TOR_PT_SERVER_BINDADDR": "a-127.0.0.1:0,b-127.0.0.2:0,c-[::1]:0,unasked-127.0.0.1:0",
	}), modulesFlags("a", "plain_v0", "b", "plain_v1", "c", "posix_v1", "unasked", "plain_v1")...)
	for name, host := range map[string]string{"a": "127.0.0.1", "b": "127.0.0.2", "c": "[::1]"} {
		address := p.address(name)
		if !strings.HasPrefix(address, host+":") || strings.HasSuffix(address, ":0") {
			t.Errorf("%s listens at %s, want a port of %s", name, address, host)
		}
		echo(t, dial(t, address), accept(t, orPort))
	}
	for _, line := range p.ready() {
		if strings.Contains(line, "unasked") {
			t.Errorf("%q, which tor did not ask for", line)
		}
	}
}

// One process has several client transports.
func TestSeveralClients(t *testing.T) {
	p := launch(t, clientVariables("a,b,plain"), modulesFlags("a", "plain_v0", "b", "posix_v1")...)
	addresses := map[string]bool{}
	for _, name := range []string{"a", "b", "plain"} {
		addresses[p.address(name)] = true
		echoThrough(t, p.address(name))
	}
	if len(addresses) != 3 {
		t.Errorf("three transports listen at %d addresses", len(addresses))
	}
}

// While tor's ORPort is down its clients are sent away; the proxy lives on.
func TestORPortDown(t *testing.T) {
	address := freeAddress(t)
	p := launch(t, serverVariables("t", address), module("t", "plain_v1")...)
	for range 3 {
		awaitClose(t, dial(t, p.address("t")))
	}
	p.line(`^LOG SEVERITY=warning MESSAGE=".*ORPort.*refused`)
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	echo(t, dial(t, p.address("t")), accept(t, again))
	for _, line := range p.stdout.get() {
		if strings.HasPrefix(line, "LOG ") && strings.Contains(line, address) {
			t.Errorf("the address was logged: %s", line)
		}
	}
}

// Connections whose module fails in its set-up or later are closed; others are
// not.
func TestFailingServerConnections(t *testing.T) {
	orPort := listen(t)
	bad := []string{"evil_trap_dial_v1", "evil_dial_badfd_v1", "evil_trap_worker_v1", "evil_return_eio_v1"}
	flags := module("t", "plain_v1")
	for _, name := range bad {
		flags = append(flags, module(name, name)...)
	}
	p := launch(t, serverVariables(strings.Join(append(slices.Clone(bad), "t"), ","), orPort.Addr().String()), flags...)
	c := dial(t, p.address("t"))
	or := accept(t, orPort)
	for _, name := range bad {
		failing := dial(t, p.address(name))
		go failing.Write(make([]byte, 64<<10)) // an error is to be expected
		awaitClose(t, failing)
	}
	echo(t, c, or)
}

// extOR is tor's side of the Extended ORPort (ext-orport-spec).
type extOR struct {
	cookie []byte
	deny   bool

	userAddr, transport string
}

const cookieHeader = "! Extended ORPort Auth Cookie !\n"

// serve does the authentication and reads the commands.
func (e *extOR) serve(c io.ReadWriter) error {
	if _, err := c.Write([]byte{1, 2, 0}); err != nil { // SAFE_COOKIE, and one nobody knows
		return err
	}
	hello := make([]byte, 33)
	if _, err := io.ReadFull(c, hello); err != nil {
		return err
	}
	if hello[0] != 1 {
		return fmt.Errorf("authentication type %d was chosen", hello[0])
	}
	clientNonce, nonce := hello[1:], make([]byte, 32)
	rand.Read(nonce)
	hash := func(what string) []byte {
		h := hmac.New(sha256.New, e.cookie)
		io.WriteString(h, "ExtORPort authentication "+what+" hash")
		h.Write(clientNonce)
		h.Write(nonce)
		return h.Sum(nil)
	}
	if _, err := c.Write(append(hash("server-to-client"), nonce...)); err != nil {
		return err
	}
	got := make([]byte, 32)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, hash("client-to-server")) {
		return errors.New("the client's hash is wrong")
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	for {
		var head struct{ Command, Length uint16 }
		if err := binary.Read(c, binary.BigEndian, &head); err != nil {
			return err
		}
		body := make([]byte, head.Length)
		if _, err := io.ReadFull(c, body); err != nil {
			return err
		}
		switch head.Command {
		case 0: // DONE
			answer := []byte{0x10, 0, 0, 0} // OKAY
			if e.deny {
				answer[1] = 1
			}
			_, err := c.Write(answer)
			return err
		case 1:
			e.userAddr = string(body)
		case 2:
			e.transport = string(body)
		default:
			return fmt.Errorf("unknown command %d", head.Command)
		}
	}
}

// Tor learns from the Extended ORPort who the client is and how it came.
func TestExtORPort_3_1_Commands(t *testing.T) {
	cookie := random(32)
	file := filepath.Join(t.TempDir(), "cookie")
	if err := os.WriteFile(file, append([]byte(cookieHeader), cookie...), 0o600); err != nil {
		t.Fatal(err)
	}
	port := listen(t)
	env := serverVariables("way", deadAddress(t)).with(variables{
		"TOR_PT_EXTENDED_SERVER_PORT": port.Addr().String(),
		"TOR_PT_AUTH_COOKIE_FILE":     file,
	})
	p := launch(t, env, module("way", "plain_v1")...)

	c := dial(t, p.address("way"))
	or := accept(t, port)
	tor := &extOR{cookie: cookie}
	if err := tor.serve(or); err != nil {
		t.Fatal(err)
	}
	if want := c.LocalAddr().String(); tor.userAddr != want || tor.transport != "way" {
		t.Errorf("USERADDR %q, TRANSPORT %q; want %q and way", tor.userAddr, tor.transport, want)
	}
	echo(t, c, or)

	// What the client sends during the handshake is not lost.
	early := dial(t, p.address("way"))
	if _, err := early.Write([]byte("early")); err != nil {
		t.Fatal(err)
	}
	or = accept(t, port)
	if err := tor.serve(or); err != nil {
		t.Fatal(err)
	}
	if err := exchange(or, []byte("late"), []byte("early")); err != nil {
		t.Error(err)
	}

	for name, tor := range map[string]*extOR{
		"denies":           {cookie: cookie, deny: true},
		"has other cookie": {cookie: random(31)},
	} {
		refused := dial(t, p.address("way"))
		or := accept(t, port)
		if err := tor.serve(or); (err == nil) != tor.deny {
			t.Errorf("tor that %s: %v", name, err)
		}
		awaitClose(t, refused)
		awaitClose(t, or)
	}

	// The one that was up has not noticed, and a new cookie is read when there is
	// one.
	tor = &extOR{cookie: random(32)}
	tor.cookie[0]++
	if err := os.WriteFile(file, append([]byte(cookieHeader), tor.cookie...), 0o600); err != nil {
		t.Fatal(err)
	}
	again := dial(t, p.address("way"))
	or = accept(t, port)
	if err := tor.serve(or); err != nil {
		t.Fatal(err)
	}
	echo(t, again, or)
}

// An Extended ORPort on another machine is worth a warning: the clients' addresses go
// there in the clear.
func TestExtORPort_4_Warning(t *testing.T) {
	cookie := filepath.Join(t.TempDir(), "cookie")
	for host, warns := range map[string]bool{"192.0.2.1": true, "127.0.0.1": false, "[::1]": false} {
		p := launch(t, serverVariables("t", "127.0.0.1:1").with(variables{
			"TOR_PT_EXTENDED_SERVER_PORT": host + ":1", "TOR_PT_AUTH_COOKIE_FILE": cookie,
		}), module("t", "plain_v1")...)
		p.ready()
		warned := slices.ContainsFunc(p.stdout.get(), func(line string) bool {
			return strings.HasPrefix(line, "LOG SEVERITY=warning ") && strings.Contains(line, "Extended ORPort is on another machine")
		})
		if warned != warns {
			t.Errorf("%s: warned: %v", host, warned)
		}
	}
}
