package examine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/refraction-networking/utls"

	"waterproxy/internal/examine/probe"
	"waterproxy/internal/examine/record"
	"waterproxy/internal/fingerprint"
)

// Probes is what probers see of the server.
type Probes struct {
	Times   int           `json:"times"` // probers of each kind
	Limit   float64       `json:"limit_seconds"`
	Results []ProbeResult `json:"results"`
	// Bytes is the least number of random bytes after which the server closes sooner than
	// when it gets nothing; 0 if there is none.
	Bytes int `json:"closes_after_bytes,omitempty"`
	// Seconds is the time after which it closes silent connections, if that is nearly the
	// same for all; 0 if it varies, or if it waits longer.
	Seconds float64 `json:"closes_after_seconds,omitempty"`
}

// ProbeResult is what probers of one kind see.
type ProbeResult struct {
	Probe    string            `json:"probe"`
	Instance string            `json:"instance"` // normal, full or failing
	Ends     map[probe.End]int `json:"ends"`
	Least    float64           `json:"least_seconds"`
	Median   float64           `json:"median_seconds"`
	Most     float64           `json:"most_seconds"`
	Answered int               `json:"answered"`
	Answer   string            `json:"answer,omitempty"` // the beginning of one
	Differs  string            `json:"differs,omitempty"`
}

// The states of an instance.
const (
	normal  = "normal"
	full    = "full"
	failing = "failing"
)

// The probes with which others are compared.
const (
	probeNothing = "nothing"
	probeRandom  = "100 random bytes"
	probeHalfEnd = "100 random bytes, half-close"
	probeReplay  = "a handshake that was seen before"
	probeFlipped = "a handshake with one bit flipped"
	probeHalf    = "half a handshake"
	probeTLS     = "a TLS ClientHello"
	probeHTTP    = "an HTTP request"
	probeSSH     = "an SSH banner"
)

// randomLengths are those of random bytes that are sent.
var randomLengths = []int{1, 10, 50, 100, 500, 1448, 5000, 8192, 10_000}

// probesOf returns all kinds. handshake is one that the server has answered before.
func probesOf(handshake []byte) ([]probe.Probe, error) {
	hello, err := fingerprint.Imitation(tls.HelloChrome_133)
	if err != nil {
		return nil, err
	}
	flipped := slices.Clone(handshake)
	flipped[len(flipped)-1] ^= 1
	kinds := []probe.Probe{{Name: probeNothing}}
	for _, n := range randomLengths {
		kinds = append(kinds, probe.Probe{Name: randomName(n), Random: n})
	}
	return append(kinds,
		probe.Probe{Name: probeHalf, Sends: handshake[:(len(handshake)+1)/2]},
		probe.Probe{Name: probeFlipped, Sends: flipped},
		probe.Probe{Name: probeReplay, Sends: handshake},
		probe.Probe{Name: probeHTTP, Sends: []byte("GET / HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n")},
		probe.Probe{Name: probeTLS, Sends: hello},
		probe.Probe{Name: probeSSH, Sends: []byte("SSH-2.0-OpenSSH_9.6\r\n")},
		probe.Probe{Name: "nothing, half-close", HalfClose: true},
		probe.Probe{Name: probeHalfEnd, Random: 100, HalfClose: true},
	), nil
}

func randomName(n int) string {
	if n == 1 {
		return "1 random byte"
	}
	return fmt.Sprintf("%d random bytes", n)
}

// probe has probers of all kinds try, at once, so that all silences are one.
func (e *examination) probe(ctx context.Context) (err error) {
	handshake := e.handshake()
	if handshake == nil {
		return errors.New("no recorded client has sent anything first; run without probes")
	}
	kinds, err := probesOf(handshake)
	if err != nil {
		return err
	}
	e.report.Probes = &Probes{Times: e.Probes, Limit: e.ProbeTime.Seconds()}
	stop := e.passTime(StageProbe, e.ProbeTime)
	defer stop()

	seen := e.tries(e.server.public)
	defer seen.wait()
	var filled *filledServer
	others := map[string]otherSeries{}
	if e.limitable() {
		if filled, err = e.fill(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, filled.close()) }()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil) // before anything that runs is waited for
	few := slices.DeleteFunc(slices.Clone(kinds), func(p probe.Probe) bool {
		return p.Name != probeNothing && p.Name != probeRandom && p.Name != probeHalfEnd
	})
	seen.oneByOne(ctx, kinds)
	if filled != nil && filled.why == "" {
		filled.tries.oneByOne(ctx, few)
	}
	seen.together(ctx, kinds)
	if filled != nil {
		if filled.why == "" {
			filled.tries.together(ctx, few)
		}
		if others[failing], err = e.probeFailing(ctx, few); err != nil {
			return err
		}
		others[full] = otherSeries{filled.tries.wait(), filled.why}
	}
	normal := seen.wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return e.judge(ctx, kinds, normal, others)
}

// tries are series of probes at one address.
type tries struct {
	*examination
	address string
	running sync.WaitGroup

	mu   sync.Mutex
	seen map[string]probe.Series // by the name of the probe
}

func (e *examination) tries(address string) *tries {
	return &tries{examination: e, address: address, seen: map[string]probe.Series{}}
}

// try begins a series. done is closed when it has its end.
func (t *tries) try(ctx context.Context, p probe.Probe) (done chan struct{}) {
	done = make(chan struct{})
	t.running.Go(func() {
		defer close(done)
		s := p.Repeat(ctx, t.address, t.Probes, t.ProbeTime)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.seen[p.Name] = s
	})
	return done
}

// quickPatience is how long a series that is likely to end at once is alone.
const quickPatience = 3 * time.Second

// oneByOne begins the series in which probers end their direction. Most servers close then, so
// one series begins after the other's end: no server is to be busy with others meanwhile.
func (t *tries) oneByOne(ctx context.Context, kinds []probe.Probe) {
	for _, p := range kinds {
		if p.HalfClose {
			select {
			case <-t.try(ctx, p):
			case <-time.After(quickPatience):
			}
		}
	}
}

// together begins all others, so that all silences are one.
func (t *tries) together(ctx context.Context, kinds []probe.Probe) {
	for _, p := range kinds {
		if !p.HalfClose {
			t.try(ctx, p)
		}
	}
}

// wait waits for all that have begun.
func (t *tries) wait() map[string]probe.Series {
	t.running.Wait()
	return t.seen
}

// otherSeries is what is seen of an instance that is not in a normal state, by probe, or why
// that has not been tried.
type otherSeries struct {
	seen map[string]probe.Series
	why  string
}

// limitable reports whether there can be other servers beside, with other limits.
func (e *examination) limitable() bool {
	return e.Limited != nil && e.Pair.Front == "" && e.Pair.Bind == ""
}

// handshake returns what one client sent before the server said anything.
func (e *examination) handshake() []byte {
	for i := range e.flows {
		if opening := e.flows[i].Opening(); len(opening) > 0 && e.flows[i].FirstPayload(record.ToClient) != nil {
			return opening
		}
	}
	return nil
}

// passTime shows the progress of a stage that takes a time.
func (e *examination) passTime(stage string, takes time.Duration) (stop func()) {
	e.Progress(stage, 0)
	began, ended := time.Now(), make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				e.Progress(stage, min(int(time.Since(began)*100/takes), 99))
			case <-ended:
				return
			}
		}
	})
	return func() {
		close(ended)
		ticking.Wait()
		e.Progress(stage, 100)
	}
}

// limited starts another server with what the first one keeps, and with a limit.
func (e *examination) limited(ctx context.Context, name string, limits map[string]any) (*server, error) {
	dir := filepath.Join(e.dir, name)
	words, err := e.Limited(filepath.Join(dir, "settings"), limits)
	if err != nil {
		return nil, err
	}
	return e.pair.startServer(ctx, dir, e.server.state, e.origin.address(), words...)
}

// filledServer is a server that has as many connections as it may have: one.
type filledServer struct {
	server *server
	conn   *net.TCPConn // the one
	talk   *conversation
	origin *origin
	tries  *tries
	why    string // it could not be filled
}

// fill starts such a server.
func (e *examination) fill(ctx context.Context) (*filledServer, error) {
	s, err := e.limited(ctx, full, map[string]any{"connections": 1, "instances": 1})
	if err != nil {
		return nil, err
	}
	f := &filledServer{server: s, talk: e.origin.expect(Tor), origin: e.origin, tries: e.tries(s.public)}
	if f.conn, err = e.client.dial(ctx, s.public, s.args); err == nil {
		err = e.origin.begin(ctx, f.conn, f.talk)
	}
	if err != nil {
		f.why = "With room for one connection none goes through, so it cannot be filled."
	}
	return f, nil
}

func (f *filledServer) close() error {
	if f.conn != nil {
		f.conn.Close()
	}
	f.tries.wait()
	f.origin.forget(f.talk)
	return f.server.Stop()
}

// crowd is more connections than an instance of so little memory can have.
const (
	crowd        = 200
	littleMemory = "8MiB"
)

// failed is what the program logs of an instance that has failed.
var failed = regexp.MustCompile("has failed|cannot start|out of memory|could not be started")

// probeFailing probes a server of which an instance fails under a crowd. Without a failure
// there is no result.
func (e *examination) probeFailing(ctx context.Context, kinds []probe.Probe) (_ otherSeries, err error) {
	s, err := e.limited(ctx, failing, map[string]any{"memory": littleMemory})
	if err != nil {
		return otherSeries{why: "With " + littleMemory + " of memory it does not start."}, context.Cause(ctx)
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	s.Stdout.Keep = 0
	random := kinds[slices.IndexFunc(kinds, func(p probe.Probe) bool { return p.Name == probeRandom })]
	series := random.Repeat(ctx, s.public, max(e.Probes, crowd), e.ProbeTime)
	if !slices.ContainsFunc(s.Stdout.All(), failed.MatchString) {
		return otherSeries{why: "With " + littleMemory + " of memory it did not fail under a crowd."}, nil
	}
	return otherSeries{seen: map[string]probe.Series{random.Name: series}}, nil
}
