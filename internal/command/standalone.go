package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"waterproxy/internal/ptlog"
	"waterproxy/internal/repository"
	"waterproxy/internal/service"
	"waterproxy/internal/walls"
)

// standalone is what `waterproxy client` and `waterproxy server` have in common: a
// service without tor.
type standalone struct{ options service.Options }

// register adds the flags of both to a set.
func (s *standalone) register(fs *flag.FlagSet) {
	s.options.Register(fs)
	s.options.Catalog.StateFlag = "-state DIR"
	fs.StringVar(&s.options.Catalog.StateDir, "state", defaultState(), "keep compiled modules, and what modules keep themselves, in `DIR`")
}

// defaultState returns where state is kept without the flag: where systemd puts it,
// or where the XDG specification puts a user's. "" if there is no such place.
func defaultState() string {
	// It may be a list (systemd.exec); the first is ours.
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "waterproxy")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	// A system user's home is a name of which there is to be no directory.
	if info, err := os.Stat(home); err != nil || !info.IsDir() {
		return ""
	}
	return filepath.Join(home, ".local", "state", "waterproxy")
}

// portOf returns the port of an address, for the walls: any if it is none, or a name for
// one, since what it stands for is looked up later.
func portOf(address string) []walls.PortRange {
	_, text, err := net.SplitHostPort(address)
	if n, bad := strconv.ParseUint(text, 10, 16); err == nil && bad == nil {
		return []walls.PortRange{walls.Port(uint16(n)), walls.DNS}
	}
	return []walls.PortRange{walls.AnyPort}
}

// run starts a transport and serves connections until the end.
func (s *standalone) run(start func(context.Context, *service.Service) (service.Runner, error)) error {
	ptlog.QueueOutput()
	o := &s.options
	if o.Catalog.StateDir != "" { // its modules may be what flags are for
		o.Catalog.Repository = repository.New(o.Catalog.StateDir)
	}
	err := o.Check() // which reads the file of -repository, and so comes first
	if err := errors.Join(append(o.Catalog.CheckFlags(), err, o.CheckMetrics())...); err != nil {
		fmt.Fprintln(os.Stderr, "waterproxy:", err)
		return errUsage
	}
	on := service.Open(o)
	if o.Catalog.StateDir == "" {
		on.Log.Warn("nothing is kept between starts, neither compiled modules, without which a start takes about a second longer, nor keys: "+
			"there is no home directory for it", "remedy", "name a directory by -state DIR")
	}
	return on.Run(func(ctx context.Context) ([]service.Runner, error) {
		r, err := service.Start(ctx, func() (service.Runner, error) { return start(ctx, on) })()
		if err != nil {
			return nil, err
		}
		return []service.Runner{r}, nil
	})
}
