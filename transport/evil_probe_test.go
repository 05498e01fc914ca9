package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"waterproxy/transport/testmodules"
)

func TestEvilExplore(t *testing.T) {
	layer := func(err error) string {
		for _, l := range []error{ErrConfig, ErrModule, ErrRole, ErrTrap, ErrLimit, ErrPolicy, ErrNetwork} {
			if errors.Is(err, l) {
				return l.Error()
			}
		}
		return "none"
	}
	for _, name := range append(testmodules.Names(t, "evil_"), testmodules.Names(t, "bad_")...) {
		m, err := Compile(testmodules.Load(t, name), CompileOptions{})
		if err != nil {
			fmt.Printf("%-28s compile [%s] %v\n", name, layer(err), err)
			continue
		}
		cfg := Config{Module: m, SetupTimeout: 500 * time.Millisecond, DrainTimeout: time.Second, MaxMemory: 16 << 20}
		d, err := NewRuntimeConnDialer(cfg)
		if err != nil {
			fmt.Printf("%-28s dialer  [%s] %v\n", name, layer(err), err)
			continue
		}
		l := dialLink(t, d, loopback(t))
		t0 := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		near, far, err := l(ctx)
		cancel()
		if err != nil {
			fmt.Printf("%-28s dial    [%s] %v (%v)\n", name, layer(err), err, time.Since(t0))
			continue
		}
		near.SetDeadline(time.Now().Add(300 * time.Millisecond))
		far.SetDeadline(time.Now().Add(300 * time.Millisecond))
		near.Write([]byte("hello from the caller, more than sixteen"))
		buf := make([]byte, 40)
		n, ferr := io.ReadFull(far, buf)
		var all []byte
		b := make([]byte, 8192)
		var rerr error
		for len(all) < 30000 {
			var k int
			k, rerr = near.Read(b)
			all = append(all, b[:k]...)
			if rerr != nil {
				break
			}
		}
		t0 = time.Now()
		cerr := near.Close()
		ct := time.Since(t0)
		ended := ""
		select {
		case <-near.Done():
			ended = fmt.Sprintf("done [%s] %v", layer(near.Err()), near.Err())
		case <-time.After(3 * time.Second):
			ended = "NOT DONE"
			near.Abort()
		}
		far.Close()
		rep := string(all)
		if len(rep) > 60 {
			rep = rep[:60]
		}
		fmt.Printf("%-28s ok far=%d,%v near=%d,%v close=%v,%v %s %q\n", name, n, ferr, len(all), rerr, cerr, ct.Round(time.Millisecond), ended, strings.ReplaceAll(rep, "\n", ";"))
	}
}
