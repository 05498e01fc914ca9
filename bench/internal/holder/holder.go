// Package holder is the body of the helper programs that hold one side of many
// connections, so that each side can be accounted by itself: one process dials,
// another listens, and the users of the connections are in these processes, too,
// without a socket of their own. Its user gives orders on standard input, one a
// line, and gets an answer on standard output to each:
//
//	open N    until N connections are open, and have carried a byte each way
//	check     whether each still carries a byte each way
//
// The answer is "ok", or "error" and a text. The first line, before any order,
// is "ok" and the address on which the process listens, if it does. The end of
// standard input ends the process.
package holder

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"waterproxy/bench/internal/oneside"
)

// Command is the first argument of a helper that is to be a holder.
const Command = "hold"

// Orders to a holder, and how its answers begin.
const (
	Open   = "open"
	Check  = "check"
	OK     = "ok"
	Failed = "error"
)

// Request is which side a holder is, as JSON in its second argument.
type Request struct {
	Module  string `json:"module,omitempty"` // file; empty for plain TCP
	Cache   string `json:"cache"`            // directory
	Variant string `json:"variant,omitempty"`
	Dial    string `json:"dial,omitempty"` // address of the other side; empty for the listener
}

// Library is what carries the connections.
type Library struct {
	Open   oneside.Opener
	Listen func(ctx context.Context, s oneside.Setting, inner net.Listener) (net.Listener, error)
}

// side holds the ends of connections.
type side interface {
	open(ctx context.Context, n int) error
	check() error
}

// Main carries out the orders and returns the exit status. Its arguments are
// those after Command.
func Main(args []string, lib Library) int {
	if err := serve(context.Background(), args, lib, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func serve(ctx context.Context, args []string, lib Library, orders io.Reader, answers io.Writer) error {
	if len(args) != 1 {
		return errors.New("one argument, a request in JSON, is expected; the bench command gives it")
	}
	var q Request
	if err := json.Unmarshal([]byte(args[0]), &q); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	setting := oneside.Setting{Cache: q.Cache, Variant: q.Variant}
	if q.Module == "" {
		lib = Library{oneside.Direct, direct}
	} else {
		var err error
		if setting.Wasm, err = os.ReadFile(q.Module); err != nil {
			return err
		}
	}
	s, address, err := q.start(ctx, lib, setting)
	if err := answer(answers, address, err); err != nil {
		return err
	}
	if err != nil {
		return nil // it has been answered
	}
	for lines := bufio.NewScanner(orders); lines.Scan(); {
		if err := answer(answers, "", obey(ctx, s, lines.Text())); err != nil {
			return err
		}
	}
	return nil
}

func (q *Request) start(ctx context.Context, lib Library, setting oneside.Setting) (side, string, error) {
	if q.Dial != "" {
		dial, err := lib.Open(ctx, setting)
		return &dialer{dial: dial, address: q.Dial}, "", err
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	l, err := lib.Listen(ctx, setting, inner)
	if err != nil {
		return nil, "", errors.Join(err, inner.Close())
	}
	return listen(l), inner.Addr().String(), nil
}

// direct is the Listen without a library: plain TCP.
func direct(_ context.Context, _ oneside.Setting, inner net.Listener) (net.Listener, error) {
	return inner, nil
}

func obey(ctx context.Context, s side, order string) error {
	var n int
	if order == Check {
		return s.check()
	}
	if _, err := fmt.Sscanf(order, Open+" %d", &n); err != nil {
		return fmt.Errorf("no order is called %q", order)
	}
	return s.open(ctx, n)
}

func answer(w io.Writer, text string, err error) error {
	if err == nil {
		_, err = fmt.Fprintln(w, strings.TrimSpace(OK+" "+text))
		return err
	}
	_, err = fmt.Fprintf(w, "%s %s\n", Failed, strings.ReplaceAll(err.Error(), "\n", "; "))
	return err
}
