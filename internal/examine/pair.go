package examine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"waterproxy/internal/ptproc"
)

// RecorderPlaceholder stands for the recorder's address in arguments, options and commands.
const RecorderPlaceholder = "{recorder}"

// Pair is the two sides of a transport, as commands that speak the pluggable transport
// protocol.
type Pair struct {
	Transport      string
	Client, Server []string            // commands
	Args           map[string][]string // of the bridge line, besides or instead of what the server publishes
	Options        map[string][]string // ServerTransportOptions
	// Bind is where the server listens; a free port of loopback if empty.
	Bind string
	// CopiesState says that a side may begin with a copy of what another keeps: this
	// program's sides need not compile a module again.
	CopiesState bool
	// Front is where connections are to go instead of to the server, as to the web server
	// before it.
	Front string
}

const (
	// startLimit is how long a side may take to say where it listens: it may have to be
	// compiled first.
	startLimit = 2 * time.Minute
	// keptLines is how many of the last lines of a process an error shows.
	keptLines = 20
)

// expand puts the recorder's address into what mentions it.
func (p Pair) expand(recorder string) Pair {
	word := func(s string) string { return strings.ReplaceAll(s, RecorderPlaceholder, recorder) }
	words := func(list []string) (out []string) {
		for _, s := range list {
			out = append(out, word(s))
		}
		return out
	}
	values := func(args map[string][]string) map[string][]string {
		out := map[string][]string{}
		for key, list := range args {
			out[key] = words(list)
		}
		return out
	}
	p.Client, p.Server, p.Args, p.Options = words(p.Client), words(p.Server), values(p.Args), values(p.Options)
	p.Bind, p.Front = word(p.Bind), word(p.Front)
	return p
}

// server is a running server.
type server struct {
	*ptproc.Process
	method ptproc.Method
	args   map[string][]string // what a client needs
	public string              // where clients and probers come in
	state  string
}

// client is a running client.
type client struct {
	*ptproc.Process
	method ptproc.Method
}

// startServer starts the server in a new folder, with a copy of the state in a directory
// unless that is "". more are words added to its command.
func (p Pair) startServer(ctx context.Context, dir, state, orPort string, more ...string) (*server, error) {
	s := &server{state: stateIn(dir)}
	if err := p.copyState(state, s.state); err != nil {
		return nil, err
	}
	variables := ptproc.Server(s.state, orPort, p.Transport).WithOptions(p.Transport, p.Options)
	if p.Bind != "" {
		variables = variables.With(ptproc.Variables{"TOR_PT_SERVER_BINDADDR": p.Transport + "-" + p.Bind})
	}
	var err error
	if s.Process, s.method, err = launch(ctx, "the server", slices.Concat(p.Server, more), variables, dir, p.Transport); err != nil {
		return nil, err
	}
	s.args = map[string][]string{}
	maps.Copy(s.args, s.method.Args)
	maps.Copy(s.args, p.Args)
	if s.public = p.Front; s.public == "" {
		s.public = s.method.Address
	}
	return s, nil
}

// startClient starts the client in a new folder, with a copy of what the server keeps.
func (p Pair) startClient(ctx context.Context, dir string, s *server) (*client, error) {
	if err := p.copyState(s.state, stateIn(dir)); err != nil {
		return nil, err
	}
	process, method, err := launch(ctx, "the client", p.Client, ptproc.Client(stateIn(dir), p.Transport), dir, p.Transport)
	if err != nil {
		return nil, err
	}
	return &client{process, method}, nil
}

// copyState copies a state directory, if the sides of the pair allow that.
func (p Pair) copyState(from, to string) error {
	if from == "" || !p.CopiesState {
		return nil
	}
	err := filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the side that runs has removed it
		}
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		switch target := filepath.Join(to, relative); {
		case entry.IsDir():
			return os.MkdirAll(target, 0o700)
		case entry.Type().IsRegular():
			content, err := os.ReadFile(name)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return errors.Join(err, os.WriteFile(target, content, 0o600))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot copy the state of a side: %w", err)
	}
	return nil
}

// stateIn returns the state directory of a process. tor ends its name in a separator.
func stateIn(dir string) string { return filepath.Join(dir, "pt_state") + string(filepath.Separator) }

// launch starts a process in a folder, and waits until it listens. After an error nothing runs.
func launch(ctx context.Context, name string, command []string, variables ptproc.Variables, dir, transport string) (*ptproc.Process, ptproc.Method, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, ptproc.Method{}, err
	}
	p := ptproc.New(variables.AddTo(ptproc.CleanEnvironment()), command...)
	p.Name, p.Cmd.Dir = name, dir
	p.Stdout.Keep = keptLines
	p.Stderr = p.Stdout
	if err := p.Start(); err != nil {
		return nil, ptproc.Method{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	m, err := p.Method(ctx, transport)
	if err != nil {
		return nil, ptproc.Method{}, errors.Join(err, p.Kill())
	}
	return p, m, nil
}

// dial asks the client for a connection to an address.
func (c *client) dial(ctx context.Context, address string, args map[string][]string) (*net.TCPConn, error) {
	conn, err := ptproc.Dial(ctx, c.method.Address, address, args)
	if err != nil {
		return nil, fmt.Errorf("the client made no connection: %w", err)
	}
	return conn, nil
}
