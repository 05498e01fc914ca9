package service

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"waterproxy/internal/meter"
	"waterproxy/internal/settings"
	"waterproxy/internal/walls"
	"waterproxy/transport"
)

// Needs are what the serving of some transports takes from the network, beyond what their
// modules are granted. Its listeners have been bound.
type Needs struct {
	Transports []string
	// Servers is whether they are servers.
	Servers bool
	// Files are read late, besides those of the transports.
	Files []string
	// Dirs are read late, with all that is in them.
	Dirs []string
	// Connect are the ports that connections go to.
	Connect []walls.PortRange
	// Args are those of the only bridge line, nil if there may be others, for which Connect
	// has every port.
	Args transport.Args
	// Source is whether connections have a source address of the operator's.
	Source bool
	// ByProxy is whether what modules dial goes through a proxy, whose port is in Connect.
	ByProxy bool
}

// RaiseWalls puts the second wall round the process, unless the operator has switched it
// off. It is called once, before a module runs. What does not stand is logged, and no
// reason not to serve.
func (s *Service) RaiseWalls(n Needs) {
	s.Catalog.Served = len(n.Transports)
	if s.news != nil {
		s.news.names = n.Transports
		n.Connect = append(n.Connect, s.news.ports()...)
		dirs, files := s.news.files()
		n.Dirs, n.Files = append(n.Dirs, dirs...), append(n.Files, files...)
	}
	if s.options.wallsOff {
		s.Log.Info("there is no second wall round the process, by -walls=off")
		return
	}
	standing, err := walls.Raise(s.plan(n))
	switch {
	case err != nil:
		s.Log.Warn("a wall round the process could not be raised", "error", err, "standing", standing.String())
	case standing.Missing() != "":
		s.Log.Info("this system has not all of the second wall; the sandbox is the first", "standing", standing.String(), "missing", standing.Missing())
	default:
		s.Log.Debug("the second wall stands", "standing", standing.String())
	}
}

// plan returns what the process needs from now on.
func (s *Service) plan(n Needs) walls.Plan {
	c := s.Catalog
	p := walls.Plan{Connect: n.Connect, Read: n.Dirs}
	if c.Dir != "" {
		p.Read = append(p.Read, c.Dir)
	}
	if c.StateDir != "" {
		p.Write = append(p.Write, c.StateDir)
	}
	for _, file := range n.Files {
		p.Read = append(p.Read, s.readable(file)...)
	}
	for _, name := range n.Transports {
		source, err := c.Read(name)
		if err != nil {
			continue // the start of the transport returns it
		}
		for _, file := range source.Files() {
			p.Read = append(p.Read, s.readable(file)...)
		}
		if w := source.Web(); n.Servers && w != nil {
			s.addWeb(&p, w)
		}
		if !n.ByProxy {
			p.Connect = append(p.Connect, grants(source.Allow(), n.Args)...)
		}
	}
	if n.Source {
		p.Bind = append(p.Bind, 0)
	}
	if s.options.metrics != "" {
		dir, port := meter.Needs(s.options.metrics)
		if dir != "" {
			p.Unix, p.Listen = s.Meter.Waiting(), s.Meter.Waiting()
			if s.isNarrow(dir) {
				p.Write = append(p.Write, dir)
			} else if p.Unix {
				s.Log.Warn("metrics will not be served: the second wall lets no socket be made there", "directory", dir,
					"remedy", "start the process again when there is that directory, for the socket alone; or -walls=off")
			}
		} else if s.Meter.Waiting() { // it is not free yet
			p.Bind, p.Listen = append(p.Bind, port), true
		}
	}
	return p
}

// addWeb adds what a web server before a module needs.
func (s *Service) addWeb(p *walls.Plan, w *settings.Web) {
	for _, file := range w.Files() {
		p.Read = append(p.Read, s.readable(file)...)
	}
	if w.Site != "" {
		p.Read = append(p.Read, w.Site)
	}
	if w.ACME != nil {
		p.Connect = append(p.Connect, walls.DNS, walls.Port(w.ACME.Port()))
	}
}

// grants returns the TCP ports of what modules may dial with these arguments.
func grants(allow []transport.AddressRule, args transport.Args) (ports []walls.PortRange) {
	for _, rule := range allow {
		for _, r := range rule.For(args) {
			ports = append(ports, walls.DNS)
			if network, low, high := r.Ports(); network == "tcp" {
				ports = append(ports, walls.PortRange{Low: low, High: high})
			}
		}
	}
	return ports
}

// readable returns what is to be readable for a file to be so: its directory, in which
// another file may take its place, or the file itself if others' files are there; and the
// same of what it leads to, if it is a link.
func (s *Service) readable(file string) (paths []string) {
	add := func(file string) {
		if dir := filepath.Dir(file); s.isNarrow(dir) {
			file = dir
		}
		paths = append(paths, file)
	}
	add(file)
	if target, err := filepath.EvalSymlinks(file); err == nil && target != file {
		add(target)
	}
	return paths
}

// isNarrow reports whether a directory is for one purpose, as far as its place tells: it
// contains neither a user's home nor the state directory, and is not one of the system's.
func (s *Service) isNarrow(dir string) bool {
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil || strings.Count(dir, "/") < 2 {
		return false
	}
	home, _ := os.UserHomeDir() // without one there is nothing to keep from
	for _, other := range []string{home, s.Catalog.StateDir} {
		if other == "" {
			continue
		}
		if real, err := filepath.EvalSymlinks(other); err == nil {
			other = real
		}
		if rel, err := filepath.Rel(dir, other); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return false
		}
	}
	return true
}

// setWalls reads the flag -walls.
func (o *Options) setWalls(value string) error {
	switch value {
	case "on", "off":
		o.wallsOff = value == "off"
		return nil
	}
	return fmt.Errorf("%q is neither on nor off", value)
}
