package examine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
func (e *examination) probe(ctx context.Context) error {
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

	var all sync.WaitGroup
	var mu sync.Mutex
	var problems []error
	seen := map[string]probe.Series{}
	others := map[string]otherSeries{}
	for _, p := range kinds {
		all.Go(func() {
			s := p.Repeat(ctx, e.server.public, e.Probes, e.ProbeTime)
			mu.Lock()
			defer mu.Unlock()
			seen[p.Name] = s
		})
	}
	if e.limitable() {
		for state, run := range map[string]func(context.Context, []probe.Probe) (otherSeries, error){full: e.probeFull, failing: e.probeFailing} {
			all.Go(func() {
				series, err := run(ctx, kinds)
				mu.Lock()
				defer mu.Unlock()
				others[state] = series
				problems = append(problems, err)
			})
		}
	}
	all.Wait()
	if err := errors.Join(problems...); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return e.judge(ctx, kinds, seen, others)
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

// probeFull probes a server that has as many connections as it may have.
func (e *examination) probeFull(ctx context.Context, kinds []probe.Probe) (_ otherSeries, err error) {
	s, err := e.limited(ctx, full, map[string]any{"connections": 1, "instances": 1})
	if err != nil {
		return otherSeries{}, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	c := e.origin.expect(Tor)
	defer e.origin.forget(c)
	conn, err := e.client.dial(ctx, s.public, s.args)
	if err == nil {
		defer conn.Close()
		err = e.origin.begin(ctx, conn, c)
	}
	if err != nil && ctx.Err() == nil {
		return otherSeries{why: "With room for one connection none goes through, so it cannot be filled."}, nil
	}
	return otherSeries{seen: e.compared(ctx, s, kinds)}, nil
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

// compared are the kinds that are tried at a full server.
func (e *examination) compared(ctx context.Context, s *server, kinds []probe.Probe) map[string]probe.Series {
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]probe.Series{}
	for _, p := range kinds {
		if p.Name == probeNothing || p.Name == probeRandom || p.Name == probeHalfEnd {
			all.Go(func() {
				series := p.Repeat(ctx, s.public, e.Probes, e.ProbeTime)
				mu.Lock()
				defer mu.Unlock()
				seen[p.Name] = series
			})
		}
	}
	all.Wait()
	return seen
}

// judge makes findings of what the probers have seen.
func (e *examination) judge(ctx context.Context, kinds []probe.Probe, seen map[string]probe.Series, others map[string]otherSeries) error {
	r := e.report
	isTLS := r.isTLS()
	var answered []string
	for _, p := range kinds {
		s := seen[p.Name]
		result := resultOf(normal, s)
		// What a prober who has recorded a client sends is compared with what one sends who
		// has not: with a ClientHello of their own where the client's is one.
		with := seen[probeRandom]
		if isTLS {
			with = seen[probeTLS]
		}
		switch p.Name {
		case probeReplay:
			result.Differs = s.Differs(with)
		case probeHalf, probeFlipped:
			if !isTLS {
				result.Differs = s.Differs(with)
			}
		}
		if s.Answered() > 0 && (!isTLS || p.Name != probeReplay && p.Name != probeFlipped && p.Name != probeTLS) {
			answered = append(answered, p.Name)
		}
		r.Probes.Results = append(r.Probes.Results, result)
		v, meaning := Info, ""
		if n := s.Answered(); n > 0 {
			meaning = fmt.Sprintf("%d of %d are answered: %s.", n, len(s.Outcomes), result.Answer)
		} else {
			meaning = "Nothing comes back."
		}
		if result.Differs != "" {
			v = Bad
			meaning += " It can be told from " + with.Probe.Name + ": " + result.Differs + "."
		}
		r.add(SectionProbes, p.Name, v, ProbeDiffers, s.Describe(), meaning)
	}
	for _, state := range []string{full, failing} {
		e.judgeOther(state, kinds, seen, others)
	}
	value, v, meaning := strings.Join(answered, ", "), Bad, "A prober gets bytes by which the service is known."
	switch {
	case len(answered) == 0:
		value, v, meaning = "no", Good, "Nobody gets a byte without the secret that a bridge line has."
		if isTLS {
			meaning = "Nobody gets a byte but those who speak TLS."
		}
	case isTLS:
		v, meaning = Info, "A web server answers as well; the answers are to be those of a usual one."
	}
	r.add(SectionProbes, "answers", v, ProbeAnswered, value, meaning)
	return e.thresholds(ctx, seen)
}

func resultOf(instance string, s probe.Series) ProbeResult {
	least, median, most := s.Times()
	result := ProbeResult{
		Probe: s.Probe.Name, Instance: instance, Ends: s.Ends(), Answered: s.Answered(),
		Least: least.Seconds(), Median: median.Seconds(), Most: most.Seconds(),
	}
	for _, o := range s.Outcomes {
		if o.Length > 0 {
			result.Answer = fmt.Sprintf("%d bytes, %s", o.Length, beginning(o.Answer))
			break
		}
	}
	return result
}

// shownBytes is how much of an answer is shown.
const shownBytes = 32

// beginning shows the first bytes of an answer: a line of text, or hexadecimal.
func beginning(answer []byte) string {
	line, _, _ := bytes.Cut(answer, []byte("\r\n"))
	line = line[:min(len(line), shownBytes)]
	if len(line) > 0 && !bytes.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return fmt.Sprintf("%q", line)
	}
	return fmt.Sprintf("% x", answer[:min(len(answer), shownBytes/2)])
}

// judgeOther compares what is seen of an instance that is full, or fails, with what is normal.
func (e *examination) judgeOther(state string, kinds []probe.Probe, seen map[string]probe.Series, others map[string]otherSeries) {
	r := e.report
	names := map[string]string{full: "an instance that is full", failing: "an instance that fails"}
	other, tried := others[state]
	switch {
	case tried:
	case e.Limited != nil:
		other.why = "Where the server's address is fixed, only one runs."
	default:
		other.why = "The limits of a program of others cannot be set."
	}
	if other.why != "" {
		r.add(SectionProbes, names[state], Info, ProbeDiffers, "not tried", other.why)
		return
	}
	for _, p := range kinds {
		s, tried := other.seen[p.Name]
		if !tried {
			continue
		}
		result := resultOf(state, s)
		result.Differs = s.Differs(seen[p.Name])
		r.Probes.Results = append(r.Probes.Results, result)
		meaning := "It cannot be told from a normal one."
		if result.Differs != "" {
			meaning = "It can be told from a normal one: " + result.Differs + "."
		}
		r.add(SectionProbes, names[state]+", "+p.Name, verdict(result.Differs != ""), ProbeDiffers, s.Describe(), meaning)
	}
}

// roundTimes are what those who write servers choose as time limits, in seconds.
var roundTimes = []float64{1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120}

// thresholds looks for a number of bytes, and a time, at which the server closes.
func (e *examination) thresholds(ctx context.Context, seen map[string]probe.Series) error {
	e.timeThreshold(seen[probeNothing])
	return e.byteThreshold(ctx, seen)
}

// timeThreshold looks at when connections end over which nothing comes.
func (e *examination) timeThreshold(nothing probe.Series) {
	r := e.report
	least, median, most := nothing.Times()
	switch {
	case !nothing.Closed():
		r.add(SectionProbes, "closes after a time", Info, Threshold, fmt.Sprintf("not within %.0f s", e.ProbeTime.Seconds()),
			"It waits longer for a silent client than was waited for; most services on the Internet do not.")
	case most-least > probe.Tolerance+median/50:
		r.add(SectionProbes, "closes after a time", Good, Threshold, fmt.Sprintf("%.1f to %.1f s", least.Seconds(), most.Seconds()), "The time varies from connection to connection.")
	default:
		r.Probes.Seconds = median.Seconds()
		v, meaning := Info, "The time is the same for all connections, but no usual one: each server may have its own."
		if r.isTLS() {
			meaning = "The same for all connections, as with usual web servers."
		} else if i := slices.IndexFunc(roundTimes, func(t float64) bool { return median.Seconds() >= t && median.Seconds() < t+0.5 }); i >= 0 {
			v, meaning = Bad, fmt.Sprintf("The time is the same for all connections: a limit of %g s, by which such servers are known.", roundTimes[i])
		}
		r.add(SectionProbes, "closes after a time", v, Threshold, fmt.Sprintf("%.1f s", median.Seconds()), meaning)
	}
}

// byteThreshold looks for the least number of random bytes after which the server closes
// sooner than without any.
func (e *examination) byteThreshold(ctx context.Context, seen map[string]probe.Series) error {
	r := e.report
	patient := patience(seen[probeNothing], e.ProbeTime)
	below, above, early := 0, 0, time.Duration(0)
	for _, n := range randomLengths {
		s := seen[randomName(n)]
		if _, _, most := s.Times(); s.Closed() && most+probe.Tolerance < patient {
			above, early = n, most
			break
		}
		below = n
	}
	if above == 0 {
		r.add(SectionProbes, "closes after bytes", Good, Threshold, "no", fmt.Sprintf("Up to %d random bytes are taken like none at all.", randomLengths[len(randomLengths)-1]))
		return nil
	}
	// Between the two, all lengths of a coarse scale are tried at once, then of a finer one.
	for above-below > 1 {
		step := max((above-below+searchWidth-1)/searchWidth, 1)
		var tried []int
		for n := below + step; n < above; n += step {
			tried = append(tried, n)
		}
		closed := make([]bool, len(tried))
		var all sync.WaitGroup
		for i, n := range tried {
			all.Go(func() {
				s := probe.Probe{Random: n}.Repeat(ctx, e.server.public, searchTimes, early+2*probe.Tolerance)
				closed[i] = s.Closed()
			})
		}
		all.Wait()
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if first := slices.Index(closed, true); first >= 0 {
			above = tried[first]
			tried = tried[:first]
		}
		if len(tried) > 0 {
			below = tried[len(tried)-1]
		}
	}
	r.Probes.Bytes = above
	if r.isTLS() {
		r.add(SectionProbes, "closes after bytes", Info, Threshold, fmt.Sprint(above),
			"What is no TLS is seen as soon as there is enough of it for a record's head, as with usual web servers.")
		return nil
	}
	r.add(SectionProbes, "closes after bytes", Bad, Threshold, fmt.Sprint(above),
		fmt.Sprintf("With %s it closes after %.1f s, with fewer later: probers find such a number, and know the protocol by it.", randomName(above), early.Seconds()))
	return nil
}

// The search for a number of bytes tries so many lengths at once, each so often.
const (
	searchWidth = 64
	searchTimes = 3
)

// patience is how long the server waits for a client that sends nothing.
func patience(s probe.Series, limit time.Duration) time.Duration {
	least, _, _ := s.Times()
	if !s.Closed() {
		return limit
	}
	return least
}
