package examine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"waterproxy/internal/examine/record"
	"waterproxy/internal/measure"
)

// Cost is what a transport costs, and what `plain` does in the same run: medians of the
// rounds, which took turns.
type Cost struct {
	Rounds  int     `json:"rounds"`
	Figures []Price `json:"figures"`
}

// Price is one figure.
type Price struct {
	Name   string   `json:"name"`
	Unit   string   `json:"unit"`
	Median float64  `json:"median"`
	Plain  *float64 `json:"plain,omitempty"`
}

// Trial is something that a transport has to survive.
type Trial struct {
	Name     string `json:"name"`
	Survived bool   `json:"survived"`
	Problem  string `json:"problem,omitempty"`
}

// The sizes of measurements: small, since they say in which region a transport is, and not
// more. The benchmarks do.
const (
	bulkSize   = 256 << 20
	bulkLimit  = 500 * time.Millisecond
	bulkChunk  = 64 << 10
	bulkStall  = 10 * time.Second
	setupCount = 100
	setupLimit = 500 * time.Millisecond
	idleConns  = 100
	idleWatch  = 300 * time.Millisecond
	openLimit  = 30 * time.Second
)

// contestant is a pair that is measured.
type contestant struct {
	pair    Pair
	figures map[string][]float64

	relay  *record.Recorder // nil unless the client is to be sent somewhere by its arguments
	origin *measure.Origin
	server *server
	client *client
	path   *measure.Path
}

// figure is one that is measured in each round.
type figure struct {
	name, unit string
}

var figures = []figure{
	{"set-up", "ms"}, {"download", "MB/s"}, {"upload", "MB/s"},
	{"client's CPU", "s/GB"}, {"server's CPU", "s/GB"},
	{"client's memory", "kB per connection"}, {"server's memory", "kB per connection"},
}

// cost measures, and tries what a transport has to survive.
func (e *examination) cost(ctx context.Context) (err error) {
	e.Progress(StageCost, 0)
	all := []*contestant{{pair: e.Pair}}
	if e.Plain != nil {
		all = append(all, &contestant{pair: *e.Plain})
	}
	relayed := e.Pair.mentionsRecorder()
	for i, c := range all {
		c.figures = map[string][]float64{}
		state := "" // of what has compiled the same module before
		if i == 0 || c.pair.Transport == e.Pair.Transport {
			state = stateIn(filepath.Join(e.dir, "server"))
		}
		defer func() { err = errors.Join(err, c.close()) }()
		if err := c.start(ctx, filepath.Join(e.dir, fmt.Sprint("cost", i)), state, e.Recorder, relayed); err != nil {
			return err
		}
	}
	total, done := e.Rounds*len(all)+1, 0
	step := func() {
		done++
		e.Progress(StageCost, min(done*100/total, 99))
	}
	// First, while the processes have not held anything yet.
	for _, c := range all {
		if c.path.KeepsOpen, err = keepsOpen(ctx, c.path, closeLimit); err != nil {
			return fmt.Errorf("measuring %s: %w", c.pair.Transport, err)
		}
		if err := c.memory(ctx); err != nil {
			return fmt.Errorf("measuring %s: %w", c.pair.Transport, err)
		}
	}
	for range e.Rounds {
		for _, c := range all {
			if err := c.round(ctx); err != nil {
				return fmt.Errorf("measuring %s: %w", c.pair.Transport, err)
			}
			step()
		}
	}
	e.report.Cost = prices(all, e.Rounds)
	e.costFindings()
	if err := e.survive(ctx, all[0].path); err != nil {
		return err
	}
	e.Progress(StageCost, 100)
	return nil
}

// start starts both sides, towards an origin for measurements.
func (c *contestant) start(ctx context.Context, dir, state, recorder string, relayed bool) (err error) {
	if c.origin, err = measure.NewOrigin(); err != nil {
		return err
	}
	if relayed {
		if c.relay, err = record.Listen(recorder); err != nil {
			return err
		}
		c.relay.Forget()
		c.pair = c.pair.expand(c.relay.Address())
	}
	if c.server, err = c.pair.startServer(ctx, filepath.Join(dir, "server"), state, c.origin.Addr()); err != nil {
		return err
	}
	target := c.server.public
	if relayed {
		c.relay.ForwardTo(target)
		target = c.relay.Address()
	}
	if c.client, err = c.pair.startClient(ctx, filepath.Join(dir, "client"), c.server); err != nil {
		return err
	}
	c.path = &measure.Path{
		Dial: func(ctx context.Context) (net.Conn, error) {
			conn, err := c.client.dial(ctx, target, c.server.args)
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
		Origin:  c.origin,
		Timeout: openLimit,
	}
	// Where processes cannot be accounted, there are no figures of them.
	if _, err := measure.Self().CPU(); !errors.Is(err, measure.ErrUnsupported) {
		c.path.Client = &measure.Process{PID: c.client.Cmd.Process.Pid}
		c.path.Server = &measure.Process{PID: c.server.Cmd.Process.Pid}
	}
	return nil
}

func (c *contestant) close() error {
	var errs []error
	if c.client != nil {
		errs = append(errs, c.client.Stop())
	}
	if c.server != nil {
		errs = append(errs, c.server.Stop())
	}
	if c.relay != nil {
		errs = append(errs, c.relay.Close())
	}
	if c.origin != nil {
		errs = append(errs, c.origin.Close())
	}
	return errors.Join(errs...)
}

// mentionsRecorder reports whether the client goes to the recorder by what it is told, so
// that it has to be there.
func (p Pair) mentionsRecorder() bool {
	const mark = "\x00"
	return strings.Contains(fmt.Sprint(p.expand(mark)), mark)
}

// round measures once what is measured in each round.
func (c *contestant) round(ctx context.Context) error {
	setups, err := measure.MeasureSetups(ctx, c.path, setupCount, setupLimit)
	if err != nil {
		return err
	}
	c.note("set-up", setups.First.P50.Seconds()*1e3)
	var bytes int64
	var clientCPU, serverCPU time.Duration
	for _, way := range []struct {
		name      string
		direction measure.Direction
	}{{"download", measure.Down}, {"upload", measure.Up}} {
		b, err := measure.MeasureBulk(ctx, c.path, measure.BulkOptions{
			Direction: way.direction, Conns: 1, Size: bulkSize, Limit: bulkLimit, Chunk: bulkChunk, Stall: bulkStall,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		c.note(way.name, b.MBps())
		bytes += b.Bytes
		clientCPU += b.Client
		serverCPU += b.Server
	}
	if c.path.Client != nil {
		c.note("client's CPU", clientCPU.Seconds()/(float64(bytes)/1e9))
		c.note("server's CPU", serverCPU.Seconds()/(float64(bytes)/1e9))
	}
	return nil
}

func (c *contestant) memory(ctx context.Context) error {
	if c.path.Client == nil {
		return nil
	}
	states, err := measure.MeasureIdle(ctx, c.path, []int{idleConns}, idleWatch)
	if err != nil {
		return err
	}
	for _, s := range states {
		c.note("client's memory", s.Client.RSSPerConn/1e3)
		c.note("server's memory", s.Server.RSSPerConn/1e3)
	}
	return nil
}

func (c *contestant) note(name string, value float64) {
	c.figures[name] = append(c.figures[name], value)
}

// prices makes medians of what has been measured; the second contestant is plain.
func prices(all []*contestant, rounds int) *Cost {
	cost := &Cost{Rounds: rounds}
	for _, f := range figures {
		if len(all[0].figures[f.name]) == 0 {
			continue
		}
		p := Price{Name: f.name, Unit: f.unit, Median: measure.Quantile(all[0].figures[f.name], 0.5)}
		if len(all) > 1 {
			plain := measure.Quantile(all[1].figures[f.name], 0.5)
			p.Plain = &plain
		}
		cost.Figures = append(cost.Figures, p)
	}
	return cost
}

func (e *examination) costFindings() {
	meanings := map[string]string{
		"set-up":          "From the beginning of a connection to the first byte of an answer, one at a time.",
		"download":        "One connection, over loopback.",
		"upload":          "One connection, over loopback.",
		"client's CPU":    "Processor time per 10^9 bytes, both directions.",
		"server's CPU":    "Processor time per 10^9 bytes, both directions.",
		"client's memory": fmt.Sprintf("Resident memory per connection, with %d idle ones.", idleConns),
		"server's memory": fmt.Sprintf("Resident memory per connection, with %d idle ones.", idleConns),
	}
	for _, p := range e.report.Cost.Figures {
		value := fmt.Sprintf("%.4g %s", p.Median, p.Unit)
		if p.Plain != nil {
			value += fmt.Sprintf("; plain %.4g", *p.Plain)
		}
		e.report.add(SectionCost, p.Name, Info, "", value, meanings[p.Name])
	}
}

// The sizes of what a transport has to survive.
const (
	closeSize  = 1 << 20
	closeTries = 3
	slowSize   = 32 << 20
)

// survive tries what happens on any network, and finds out whether anything is lost.
func (e *examination) survive(ctx context.Context, path *measure.Path) error {
	slow := measure.SlowOptions{Size: slowSize, Pause: 500 * time.Millisecond, Burst: 8 << 20, Nap: 10 * time.Millisecond}
	var held int64
	closing := func(d measure.Direction) func() error {
		return func() error {
			_, err := measure.CheckClosing(ctx, path, d, closeSize, closeTries)
			return err
		}
	}
	slowly := func(d measure.Direction) func() error {
		return func() error {
			_, err := measure.CheckSlowReader(ctx, path, d, slow)
			return err
		}
	}
	for _, t := range []struct {
		name, meaning string
		try           func() error
	}{
		{"close by the client", "The server's side learns of it.", func() error {
			if path.KeepsOpen {
				return fmt.Errorf("it did not reach the server's side within %v", closeLimit)
			}
			return nil
		}},
		{"client writes and closes", "All that was written arrives, and then the end.", closing(measure.Up)},
		{"server writes and closes", "All that was written arrives, and then the end.", closing(measure.Down)},
		{"half-close by the client", "The other direction goes on after the end of one.", func() error { return checkHalfClose(ctx, path, true) }},
		{"half-close by the server", "The other direction goes on after the end of one.", func() error { return checkHalfClose(ctx, path, false) }},
		{"slow reader at the server", "All arrives, however late it is read.", slowly(measure.Up)},
		{"slow reader at the client", "All arrives, however late it is read.", slowly(measure.Down)},
		{"back-pressure", "Who sends is held up while nobody reads, so that nothing fills memory.", func() (err error) {
			held, err = measure.CheckBackPressure(ctx, path)
			return err
		}},
	} {
		err := t.try()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		trial := Trial{Name: t.name, Survived: err == nil}
		value, meaning := "survived", t.meaning
		if err != nil {
			trial.Problem = err.Error()
			value, meaning = "not survived", strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		if t.name == "back-pressure" && err == nil {
			value = fmt.Sprintf("survived, %.1f MB taken", float64(held)/1e6)
		}
		e.report.Survival = append(e.report.Survival, trial)
		e.report.add(SectionSurvival, t.name, verdict(err != nil), Survives, value, meaning)
	}
	return nil
}

// closeLimit is how long the close of one end may take to reach the other.
const closeLimit = 5 * time.Second

// keepsOpen reports whether the far end of a connection does not learn of the near one's close
// within a limit.
func keepsOpen(ctx context.Context, path *measure.Path, limit time.Duration) (bool, error) {
	l, err := path.Open(ctx)
	if err != nil {
		return false, err
	}
	defer l.Abort()
	if err := errors.Join(l.CloseNear(ctx), l.Far.SetReadDeadline(time.Now().Add(limit))); err != nil {
		return false, err
	}
	_, err = io.Copy(io.Discard, l.Far)
	return errors.Is(err, os.ErrDeadlineExceeded), nil
}

// halfCloseLimit bounds a half-close with what comes after it.
const halfCloseLimit = 10 * time.Second

// checkHalfClose ends one direction of a connection, and sends in the other one afterwards.
func checkHalfClose(ctx context.Context, path *measure.Path, byClient bool) error {
	l, err := path.Open(ctx)
	if err != nil {
		return err
	}
	defer l.Abort()
	first, second := l.Near, l.Far
	if !byClient {
		first, second = second, first
	}
	for _, c := range []net.Conn{first, second} {
		if err := c.SetDeadline(time.Now().Add(halfCloseLimit)); err != nil {
			return err
		}
	}
	closer, ok := first.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("the connection has no half-close")
	}
	sent := slices.Repeat([]byte("after a half-close "), 5000)
	if _, err := first.Write(sent); err != nil {
		return err
	}
	if err := closer.CloseWrite(); err != nil {
		return err
	}
	if got, err := io.ReadAll(second); err != nil {
		return fmt.Errorf("before the end %d of %d bytes arrived: %w", len(got), len(sent), err)
	} else if len(got) != len(sent) {
		return fmt.Errorf("before the end %d of %d bytes arrived", len(got), len(sent))
	}
	if _, err := second.Write(sent); err != nil {
		return fmt.Errorf("after the end of the other direction: %w", err)
	}
	got := make([]byte, len(sent))
	if n, err := io.ReadFull(first, got); err != nil {
		return fmt.Errorf("after the end of the other direction %d of %d bytes arrived: %w", n, len(sent), err)
	}
	return nil
}
