package watm

import (
	"errors"
	"io/fs"
	"log"
	"os"
	"strings"
	"syscall"

	"waterproxy/internal/ptargs"
)

// Where the host leaves what it has to say, and reads what the module has
// (docs/abi.md, "Arguments and state"). A host that knows only the v1 ABI has the
// first of these files alone.
const (
	configFile    = "/conf/watm.cfg"
	roleFile      = "/watm/role"
	argsFile      = "/watm/args"
	targetFile    = "/watm/target"
	publishedFile = "/watm/smethod"
	addressFile   = "/watm/address"
	reasonFile    = "/watm/error"
	stateDir      = "/state"
)

func init() { log.SetFlags(0) } // the host's log has the time

// WASI error numbers, which the host gets as negative results.
const (
	eio       = 29
	einval    = 28
	ecanceled = 11
)

// note reads a file that the host may have left.
func note(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "" // the host does not know of such files
	}
	return string(b)
}

// errno returns the error number that comes nearest to err.
func errno(err error) int32 {
	var no syscall.Errno
	switch {
	case errors.As(err, new(argsError)):
		return einval
	case errors.As(err, &no) && no != 0:
		return int32(no)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return int32(syscall.ETIMEDOUT)
	}
	return eio
}

// fail tells the host why a result is negative, and returns the result.
func fail(err error) int32 {
	if werr := os.WriteFile(reasonFile, []byte(reason(err)), 0o600); werr != nil && !errors.Is(werr, fs.ErrNotExist) {
		log.Print("cannot tell the host why: ", werr)
	}
	return -errno(err)
}

const maxReason = 500

func reason(err error) string {
	s := err.Error()
	return strings.ToValidUTF8(s[:min(len(s), maxReason)], "")
}

// environment is what Start gets.
func environment(server bool) (*Env, error) {
	args, err := ptargs.Parse(note(argsFile))
	if err != nil {
		return nil, err
	}
	env := &Env{Server: server, publish: func(text string) error {
		return os.WriteFile(publishedFile, []byte(text), 0o600)
	}, publishAddress: func(address string) error {
		return os.WriteFile(addressFile, []byte(address), 0o600)
	}}
	if server {
		env.Args = args
	}
	if config, err := os.ReadFile(configFile); err == nil {
		env.Config = config
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EBADF) {
		return nil, err
	}
	if info, err := os.Stat(stateDir); err == nil && info.IsDir() {
		env.StateDir = stateDir
	}
	return env, nil
}
