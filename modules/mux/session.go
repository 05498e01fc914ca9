package main

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/xtaci/smux"
)

// session is one network connection and the streams in it.
type session struct {
	*smux.Session
	ctx     context.Context // done when nothing more can come
	streams sync.WaitGroup
}

func config() *smux.Config {
	c := smux.DefaultConfig()
	c.Version = 2 // a window for each stream: one that is not read does not stop the others
	c.KeepAliveDisabled = true
	c.MaxStreamBuffer = 512 << 10
	// When so much waits to be read in all streams together, all of them wait.
	c.MaxReceiveBuffer = 128 << 20
	return c
}

func clientSession(conn net.Conn) (*session, error) {
	inner, err := smux.Client(conn, config())
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	ctx, end := context.WithCancel(context.Background())
	s := &session{Session: inner, ctx: ctx}
	go s.serve(end, func(c net.Conn) error {
		return errors.Join(errors.New("the server has opened a stream"), c.Close())
	})
	return s, nil
}

func serveSession(conn net.Conn, deliver func(net.Conn) error) error {
	inner, err := smux.Server(conn, config())
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	s := &session{Session: inner, ctx: ctx}
	return s.serve(end, deliver)
}

// serve delivers the streams that the peer opens, until the connection ends. The
// streams still deliver what they have received.
func (s *session) serve(end func(), deliver func(net.Conn) error) error {
	defer func() {
		end()
		go func() {
			s.streams.Wait()
			s.Session.Close()
		}()
	}()
	for {
		inner, err := s.AcceptStream()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := deliver(s.stream(inner)); err != nil {
			log.Print("a stream was refused: ", err) // deliver has closed it; the others go on
		}
	}
}

func (s *session) open() (net.Conn, error) {
	if s.ctx.Err() != nil {
		return nil, net.ErrClosed
	}
	inner, err := s.OpenStream()
	if err != nil {
		return nil, err
	}
	return s.stream(inner), nil
}

// stream is one caller's connection.
type stream struct {
	*smux.Stream
	closed func()
}

func (s *session) stream(inner *smux.Stream) net.Conn {
	s.streams.Add(1)
	// A write that waits for the peer's window does not notice the end.
	stop := context.AfterFunc(s.ctx, func() { inner.SetWriteDeadline(time.Unix(1, 0)) })
	return &stream{inner, sync.OnceFunc(func() {
		stop()
		inner.Close()
		s.streams.Done()
	})}
}

// WriteTo goes on after an error until nothing is left: the end of the session may
// show before what came ahead of it.
func (s *stream) WriteTo(w io.Writer) (total int64, err error) {
	for {
		var n int64
		n, err = s.Stream.WriteTo(w)
		if total += n; n == 0 {
			return total, err
		}
	}
}

// Close reads what still comes, so that the peer's writes do not wait for ever on
// a full window.
func (s *stream) Close() error {
	err := s.Stream.CloseWrite()
	go func() {
		io.Copy(io.Discard, s.Stream)
		s.closed()
	}()
	return err
}
