//go:build wasip1

package main

import (
	"encoding/hex"
	"errors"
	"os"
	"strconv"

	"waterproxy/internal/ptargs"
	"waterproxy/watm"
)

// start does what the configuration says:
//
//	start    a fault
//	publish  what a server publishes: see publish
//	hoard    open this many files
func start(env *watm.Env) error {
	config, err := ptargs.Parse(string(env.Config))
	if err != nil {
		return err
	}
	args := watm.Args(config)
	fault, _ := args.Get("start")
	if err := commit(fault); err != nil {
		return err
	}
	if err := hoard(env, args); err != nil {
		return err
	}
	return publish(env, args)
}

// publish publishes what the argument of that name says:
//
//	arguments  the server's arguments, as describe writes them
//	again      the server's arguments as they are
//	text       the argument text, whether or not it is well-formed
//	address    the argument address as the bridge line's, and none else
//	count      how often the module has been started with the same state directory
//	leave      what it could do outside of that directory
func publish(env *watm.Env, args watm.Args) error {
	switch what, _ := args.Get("publish"); what {
	case "arguments":
		return env.Publish(watm.Args{"seen": {describe(env.Args)}})
	case "again":
		return env.Publish(env.Args)
	case "text":
		text, _ := args.Get("text")
		return os.WriteFile("/watm/smethod", []byte(text), 0o600)
	case "address":
		address, _ := args.Get("address")
		return env.PublishAddress(address)
	case "count":
		n, err := count(env.StateDir)
		if err != nil {
			return err
		}
		return env.Publish(watm.Args{"count": {strconv.Itoa(n)}})
	case "leave":
		return env.Publish(watm.Args{"done": leave(env.StateDir)})
	}
	return nil
}

// count counts calls in a file; 0 if there is no directory for it.
func count(dir string) (int, error) {
	if dir == "" {
		return 0, nil
	}
	before, err := os.ReadFile(dir + "/count")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	n, _ := strconv.Atoi(string(before))
	return n + 1, os.WriteFile(dir+"/count", []byte(strconv.Itoa(n+1)), 0o600)
}

// leave tries to read, make, move and remove files outside of a directory, and
// returns what has worked.
func leave(dir string) (done []string) {
	try := func(what, path string, err error) {
		if err == nil {
			done = append(done, what+hex.EncodeToString([]byte(path)))
		}
	}
	// The test puts a file and a directory there, and links that lead to them.
	for _, path := range []string{"/../file", "/link/file", "/../directory", "/link/directory", "/filelink"} {
		at := dir + path
		_, err := os.ReadFile(at)
		try("read", path, err)
		_, err = os.ReadDir(at)
		try("list", path, err)
		try("write", path, os.WriteFile(at, []byte("written"), 0o600))
		if path == "/filelink" { // the link itself is the module's
			continue
		}
		try("mkdir", path, os.Mkdir(at+".new", 0o700))
		try("move", path, os.Rename(at, dir+"/moved"))
		try("remove", path, os.Remove(at))
	}
	return done
}

var hoarded []*os.File // so that the collector does not close them

// hoard opens as many files as the argument of that name says, and keeps them.
func hoard(env *watm.Env, args watm.Args) error {
	text, ok := args.Get("hoard")
	if !ok {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	for range n {
		f, err := os.OpenFile(env.StateDir+"/file", os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		hoarded = append(hoarded, f)
	}
	return nil
}
