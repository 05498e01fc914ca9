package transports

import (
	"errors"
	"net"

	"waterproxy/internal/catalog"
	"waterproxy/internal/settings"
	"waterproxy/internal/web"
	"waterproxy/transport"
)

// urlOption is the option of a server whose path the web server hands on.
const urlOption = "url"

// CheckServer returns what is wrong with a server's settings and options, as far as that
// shows before anybody listens. What is wrong with its module shows when that starts.
func (s *Set) CheckServer(o Options) error {
	source, err := s.catalog.Read(o.Name)
	if err != nil {
		return err
	}
	w := source.Web()
	if w == nil {
		return nil
	}
	return errors.Join(web.Check(w), checkURL(w, o.Args))
}

// urlOf returns the url of a server, "" if it has not one.
func urlOf(args transport.Args) string {
	if urls := args[urlOption]; len(urls) == 1 {
		return urls[0]
	}
	return ""
}

func checkURL(w *settings.Web, args transport.Args) error {
	if err := web.CheckURL(urlOf(args)); err != nil {
		return w.Wrong(err)
	}
	return nil
}

// openFront returns inner, or, if the settings have a web server, that before it.
func (e *entry) openFront(source *catalog.Source, inner net.Listener) (net.Listener, error) {
	w := source.Web()
	if w == nil {
		return inner, nil
	}
	if err := checkURL(w, e.o.Args); err != nil {
		return nil, err
	}
	front, err := web.Listen(inner, web.Config{
		Web: w, URL: urlOf(e.o.Args), CacheDir: e.set.catalog.CacheDir(), Dial: e.o.Dial, Log: e.log,
	})
	if err != nil {
		return nil, err
	}
	e.front = front
	return front, nil
}

// reloadFront has the web server read its settings and files again. The lock is held.
func (e *entry) reloadFront() {
	if e.front == nil {
		return
	}
	source, err := e.set.catalog.Read(e.o.Name)
	if err == nil {
		err = e.front.Reload(source.Web())
	}
	if err != nil {
		e.log.Warn("the web server goes on with what it had", "error", err)
	}
}

// checkFront returns an error if a running server is to get a web server.
func (e *entry) checkFront(source *catalog.Source) error {
	if w := source.Web(); w != nil && e.front == nil && e.role == transport.RoleServer {
		return w.Wrong(errors.New("the table is new: start the process again, so that it stands before the module"))
	}
	return nil
}
