//go:build wasip1

// Command files does in its state directory what its configuration says, one order a
// line, when it starts as a server. It publishes the result of each: what was read, ok,
// or the text of the error.
//
//	list        the names in the directory
//	read NAME
//	write NAME  a file with the text "written"
//	stat NAME
//	mkdir NAME
//	rename OLD NEW
//	remove NAME
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"strings"
	"syscall"

	"waterproxy/watm"
)

type files struct{}

// Start implements watm.Starter.
func (files) Start(env *watm.Env) error {
	var results []string
	for line := range strings.Lines(string(env.Config)) {
		result, err := do(env.StateDir, strings.Fields(line))
		var errno syscall.Errno
		switch {
		case errors.As(err, &errno):
			result = fmt.Sprint("errno:", int(errno))
		case err != nil:
			return err
		}
		results = append(results, result)
	}
	return env.Publish(watm.Args{"result": results})
}

// do carries out one order.
func do(dir string, order []string) (result string, err error) {
	name := func(i int) string { return path.Join(dir, order[i]) }
	switch order[0] {
	case "list":
		entries, err := os.ReadDir(dir)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, "+"), err
	case "read":
		text, err := os.ReadFile(name(1))
		return string(text), err
	case "write":
		err = os.WriteFile(name(1), []byte("written"), 0o600)
	case "stat":
		_, err = os.Lstat(name(1))
	case "mkdir":
		err = os.Mkdir(name(1), 0o700)
	case "rename":
		err = os.Rename(name(1), name(2))
	case "remove":
		err = os.Remove(name(1))
	default:
		err = fmt.Errorf("%q is no order", order)
	}
	return "ok", err
}

// Client implements watm.Transport; nobody calls it.
func (files) Client(_ context.Context, conn watm.Conn, _ watm.Args) (net.Conn, error) {
	return conn, nil
}

// Server implements watm.Transport.
func (files) Server(_ context.Context, conn watm.Conn) (net.Conn, error) { return conn, nil }

func main() { watm.Run(files{}) }
