package examine

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"waterproxy/internal/examine/probe"
)

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
		} else if i := slices.IndexFunc(roundTimes, func(t float64) bool { return math.Abs(median.Seconds()-t) < 0.5 }); i >= 0 {
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
