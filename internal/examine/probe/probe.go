// Package probe does what someone does who has an address and wants to know what listens
// there: it connects, sends something, and looks at what comes back and how it ends.
package probe

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Probe is what a prober does.
type Probe struct {
	Name      string
	Sends     []byte
	Random    int  // or so many random bytes, others each time
	HalfClose bool // whether it ends its direction afterwards
}

// End is what a prober sees at the end.
type End string

// The ends.
const (
	FIN     End = "FIN"                  // the server has closed the connection
	HalfFIN End = "FIN of one direction" // it still reads
	RST     End = "RST"
	Silence End = "still open"
	Refused End = "refused"
	Broken  End = "error"
)

// Outcome is what a prober has seen.
type Outcome struct {
	End      End
	After    time.Duration // from the connection to the end
	Answered time.Duration // to the first byte that came back
	Answer   []byte        // the first bytes that came back
	Length   int64         // how many came back in all
}

// answerBytes is how many bytes of an answer are kept.
const answerBytes = 256

// Try probes an address once, and gives up after limit, or when ctx ends.
func (p Probe) Try(ctx context.Context, address string, limit time.Duration) Outcome {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return Outcome{End: Refused}
	}
	conn := c.(*net.TCPConn)
	defer conn.Close()
	begin := time.Now()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) }) // a deadline is what tells this from an end
	defer stop()
	var o Outcome
	// A server may answer, or close, before it has taken all.
	wrote := make(chan error, 1)
	sends := p.Sends
	if p.Random > 0 {
		sends = make([]byte, p.Random)
		_, _ = rand.Read(sends) // it has no error
	}
	go func() {
		_, err := conn.Write(sends)
		if err == nil && p.HalfClose {
			err = conn.CloseWrite()
		}
		wrote <- err
	}()
	err = o.read(conn, begin)
	o.After = time.Since(begin)
	switch {
	case err == nil && (p.HalfClose || refusesMore(ctx, conn)):
		o.End = FIN
	case err == nil:
		o.End = HalfFIN
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		o.End = RST
	case errors.Is(err, os.ErrDeadlineExceeded):
		o.End = Silence
	default:
		o.End = Broken
	}
	_ = conn.SetDeadline(time.Now()) // what has not been taken is not sent any more
	<-wrote
	return o
}

// read takes all that comes, until the end.
func (o *Outcome) read(conn net.Conn, begin time.Time) error {
	for buffer := make([]byte, 16<<10); ; {
		n, err := conn.Read(buffer)
		if n > 0 {
			if o.Length == 0 {
				o.Answered = time.Since(begin)
			}
			o.Length += int64(n)
			o.Answer = append(o.Answer, buffer[:min(n, answerBytes-len(o.Answer))]...)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// refusePatience is how long the refusal of one more byte may take on its way.
const refusePatience = 2 * time.Second

// refusesMore tells a connection that its peer has closed from one that the peer still reads.
func refusesMore(ctx context.Context, conn net.Conn) bool {
	for end := time.Now().Add(refusePatience); time.Now().Before(end); {
		if _, err := conn.Write([]byte{0}); err != nil {
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// Series is what several probers of one kind have seen, in the order of After.
type Series struct {
	Probe    Probe
	Outcomes []Outcome
}

// Repeat has so many probers try at once, and returns when the last has its outcome.
func (p Probe) Repeat(ctx context.Context, address string, times int, limit time.Duration) Series {
	s := Series{Probe: p, Outcomes: make([]Outcome, times)}
	var all sync.WaitGroup
	for i := range times {
		all.Go(func() { s.Outcomes[i] = p.Try(ctx, address, limit) })
	}
	all.Wait()
	slices.SortFunc(s.Outcomes, func(a, b Outcome) int { return cmp.Compare(a.After, b.After) })
	return s
}

// Ends counts how connections ended.
func (s Series) Ends() map[End]int {
	counts := map[End]int{}
	for _, o := range s.Outcomes {
		counts[o.End]++
	}
	return counts
}

// Times returns the least, the median and the greatest of the times to the end.
func (s Series) Times() (least, median, most time.Duration) {
	if len(s.Outcomes) == 0 {
		return 0, 0, 0
	}
	return s.Outcomes[0].After, s.Outcomes[len(s.Outcomes)/2].After, s.Outcomes[len(s.Outcomes)-1].After
}

// Answered counts the probers that got bytes.
func (s Series) Answered() (n int) {
	for _, o := range s.Outcomes {
		if o.Length > 0 {
			n++
		}
	}
	return n
}

// Closed reports whether the server ended all connections, rather than keeping them.
func (s Series) Closed() bool {
	return !slices.ContainsFunc(s.Outcomes, func(o Outcome) bool { return o.End == Silence || o.End == Broken || o.End == Refused })
}

// Tolerance is how far two times are apart at least that a network lets anyone tell.
const Tolerance = time.Second

// Differs says how a prober can tell two series from each other, and "" if not: by how
// connections end, by whether there is an answer, or by when. Where the time varies, medians
// may be apart by half of what both vary.
func (s Series) Differs(other Series) string {
	if a, b := endsText(s.Ends()), endsText(other.Ends()); a != b {
		return fmt.Sprintf("%s, and not %s", a, b)
	}
	if a, b := s.Answered() > 0, other.Answered() > 0; a != b {
		return map[bool]string{true: "it is answered", false: "it is not answered"}[a]
	}
	least, median, most := s.Times()
	otherLeast, otherMedian, otherMost := other.Times()
	if apart := (median - otherMedian).Abs(); apart > Tolerance+(most-least+otherMost-otherLeast)/2 {
		return fmt.Sprintf("after %.1f s, and not %.1f s", median.Seconds(), otherMedian.Seconds())
	}
	return ""
}

// endsText names the ends that there were.
func endsText(counts map[End]int) string {
	var words []string
	for _, e := range []End{FIN, HalfFIN, RST, Silence, Refused, Broken} {
		if counts[e] > 0 {
			words = append(words, string(e))
		}
	}
	return strings.Join(words, " or ")
}

// Describe says when and how the connections of a series ended.
func (s Series) Describe() string {
	counts := s.Ends()
	var ends []string
	for _, e := range []End{FIN, HalfFIN, RST, Silence, Refused, Broken} {
		switch n := counts[e]; {
		case n == len(s.Outcomes):
			ends = append(ends, string(e))
		case n > 0:
			ends = append(ends, fmt.Sprintf("%s (%d)", e, n))
		}
	}
	least, median, most := s.Times()
	return fmt.Sprintf("%.2f – %.2f – %.2f s, %s", least.Seconds(), median.Seconds(), most.Seconds(), strings.Join(ends, ", "))
}
