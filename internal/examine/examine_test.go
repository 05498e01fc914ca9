package examine

import (
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"waterproxy/internal/examine/probe"
	"waterproxy/internal/examine/record"
	"waterproxy/internal/fingerprint"
	"waterproxy/internal/measure"
	"waterproxy/internal/pttest"

	utls "github.com/refraction-networking/utls"
)

func TestMain(m *testing.M) { os.Exit(pttest.Run(m)) }

// flowOf is a recorded flow of segments; those with a length below 0 go to the client.
func flowOf(kind Kind, random *rand.ChaCha8, lengths ...int) flow {
	f := flow{kind: kind}
	for i, n := range lengths {
		s := record.Segment{Length: n, At: time.Duration(i) * time.Millisecond}
		if n < 0 {
			s.Direction, s.Length = record.ToClient, -n
		}
		s.Data = make([]byte, s.Length)
		random.Read(s.Data)
		f.Segments = append(f.Segments, s)
	}
	return f
}

func verdictOf(t *testing.T, r *Report, section, name string) Finding {
	t.Helper()
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Section == section && f.Name == name })
	if i < 0 {
		t.Fatalf("no finding %q in %q", name, section)
	}
	return r.Findings[i]
}

// Random bytes of random lengths are blocked, and nothing else is said against them.
func TestObserveRandom(t *testing.T) {
	random := rand.NewChaCha8([32]byte{3})
	var flows []flow
	for i := range 200 {
		n := rand.New(random)
		flows = append(flows, flowOf(Kinds[i%3], random, 300+n.IntN(1000), -300-n.IntN(1000), 200+n.IntN(500), -200-n.IntN(500)))
	}
	r := &Report{Connections: 200}
	if err := r.observe(flows); err != nil {
		t.Fatal(err)
	}
	if r.First.Blocked < 190 || r.First.Blocked+r.First.Exempt != 200 || r.TLS != nil || len(r.Samples) != 3 {
		t.Errorf("%+v, %+v, %d samples", r.First, r.TLS, len(r.Samples))
	}
	var bad []Word
	for _, f := range r.Findings {
		if f.Verdict == Bad {
			bad = append(bad, f.FailsOn)
		}
	}
	if !slices.Equal(bad, []Word{Blocked}) {
		t.Errorf("bad are %v", bad)
	}
	if len(r.Entropy.ToServer) != entropyBytes || math.Abs(r.Entropy.ToServer[0]-r.Entropy.Random) > 0.4 {
		t.Errorf("the first byte has %.2f bits, and random ones %.2f", r.Entropy.ToServer[0], r.Entropy.Random)
	}
	if got := r.Failures([]Word{TLSInTLS}); len(got) != 0 {
		t.Errorf("fails on %v", got)
	}
	if got := r.Failures([]Word{TLSInTLS, Blocked}); len(got) != 1 || got[0].Name != "blocked" {
		t.Errorf("fails on %v", got)
	}
}

// A fixed length, fixed bytes, and the bursts of a handshake inside are found.
func TestObserveGiveaways(t *testing.T) {
	random := rand.NewChaCha8([32]byte{4})
	var flows []flow
	for range 30 {
		f := flowOf(Bulk, random, 641, -1448, -1448, -1448, -305, 448, -1094, 10)
		f.Segments[0].Data[2], f.Segments[0].Data[3], f.Segments[0].Data[7] = 9, 9, 9
		flows = append(flows, f)
	}
	r := &Report{Connections: 30}
	if err := r.observe(flows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		section, name, value string
		word                 Word
	}{
		{SectionLengths, "fixed lengths", "5 positions", FixedLength},
		{SectionEntropy, "client's fixed bytes", "2-3, 7", FixedBytes},
		{SectionInner, "any model", "30 of 30", TLSInTLS},
	} {
		if f := verdictOf(t, r, want.section, want.name); f.Verdict != Bad || f.Value != want.value || f.FailsOn != want.word {
			t.Errorf("%+v, want %+v", f, want)
		}
	}
	if in := r.Inner[1]; in.Matches != 30 || in.ByKind[Bulk] != 30 || in.Least == nil || *in.Least > 0.2 {
		t.Errorf("%+v", in)
	}
	if got := r.Lengths.ToClient[0]; len(got.Fixed) != 0 || got.Distinct != 1 {
		t.Errorf("a full packet is a fixed length: %+v", got)
	}
}

// A ClientHello that no client has is found, and one that a browser has is named.
func TestObserveTLS(t *testing.T) {
	random := rand.NewChaCha8([32]byte{5})
	hello, err := fingerprint.Imitation(utls.HelloFirefox_120)
	if err != nil {
		t.Fatal(err)
	}
	browser := flowOf(Web, random, len(hello), -100)
	copy(browser.Segments[0].Data, hello)
	odd := flowOf(Web, random, len(hello), -100)
	copy(odd.Segments[0].Data, hello)
	odd.Segments[0].Data[76+2+1] ^= 0x40 // in the first of its ciphers, after a session's number of 32 bytes
	for name, test := range map[string]struct {
		flow flow
		want Verdict
	}{"browser": {browser, Good}, "none": {odd, Bad}} {
		r := &Report{Connections: 1}
		if err := r.observe([]flow{test.flow}); err != nil {
			t.Fatal(err)
		}
		f := verdictOf(t, r, SectionTLS, "known client")
		if f.Verdict != test.want || test.want == Good && !strings.Contains(f.Value, "Firefox 120") {
			t.Errorf("%s: %+v", name, f)
		}
		if r.First.ByRule["Ex5"] != 1 || r.TLS.Versions["none, no answer"] != 1 {
			t.Errorf("%s: %+v, %+v", name, r.First, r.TLS)
		}
	}
}

// What a module chooses cannot command a terminal, and cannot be markup of the page.
func TestHarmless(t *testing.T) {
	r := &Report{}
	r.add(SectionTLS, "SNI", Info, "", "\x1b[31m<b>red</b>\n\xff", "x\u202ey")
	var text, page strings.Builder
	if err := errors.Join(r.WriteText(&text), r.WriteHTML(&page)); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(text.String()+page.String(), "\x1b\u202e") || strings.Contains(page.String(), "<b>") || !strings.Contains(text.String(), "<b>red</b>") {
		t.Errorf("%q, %q", text.String(), page.String())
	}
}

func TestParseWords(t *testing.T) {
	if words, err := ParseWords(" blocked, tls-in-tls"); err != nil || !slices.Equal(words, []Word{Blocked, TLSInTLS}) {
		t.Errorf("%v, %v", words, err)
	}
	if words, err := ParseWords(""); err != nil || words != nil {
		t.Errorf("%v, %v", words, err)
	}
	if _, err := ParseWords("blocked,"); err == nil {
		t.Error("an empty word is taken")
	}
	if _, err := ParseWords("colour"); err == nil || !strings.Contains(err.Error(), "probe-differs") {
		t.Errorf("%v", err)
	}
	for _, word := range slices.Collect(maps.Keys(Words)) {
		if _, err := ParseWords(string(word)); err != nil {
			t.Error(err)
		}
	}
}

// The number of bytes after which a server closes is found to the byte.
func TestByteThreshold(t *testing.T) {
	const threshold = 307
	address := pttest.Serve(t, func(c *net.TCPConn) { _, _ = io.ReadFull(c, make([]byte, threshold)) })
	e := &examination{Options: Options{ProbeTime: 2500 * time.Millisecond, Progress: func(string, int) {}}, report: &Report{}, server: &server{public: address}}
	e.report.Probes = &Probes{}
	seen := map[string]probe.Series{probeNothing: {Outcomes: []probe.Outcome{{End: probe.Silence, After: e.ProbeTime}}}}
	for _, n := range randomLengths {
		s := probe.Series{Outcomes: []probe.Outcome{{End: probe.Silence, After: e.ProbeTime}}}
		if n >= threshold {
			s.Outcomes[0] = probe.Outcome{End: probe.FIN, After: time.Millisecond}
		}
		seen[randomName(n)] = s
	}
	if err := e.byteThreshold(t.Context(), seen); err != nil {
		t.Fatal(err)
	}
	if f := verdictOf(t, e.report, SectionProbes, "closes after bytes"); e.report.Probes.Bytes != threshold || f.Verdict != Bad || f.FailsOn != Threshold {
		t.Errorf("%+v, %d", f, e.report.Probes.Bytes)
	}
}

// A time that is the same for all connections is found, and one that a person chose is bad.
func TestTimeThreshold(t *testing.T) {
	for name, test := range map[string]struct {
		end     probe.End
		seconds []float64
		want    Verdict
		found   float64
	}{
		"round":  {probe.FIN, []float64{30, 30.1, 30.2}, Bad, 30.1},
		"drawn":  {probe.FIN, []float64{52.9, 53, 53.1}, Info, 53},
		"varies": {probe.FIN, []float64{31, 50, 80}, Good, 0},
		"waits":  {probe.Silence, []float64{95, 95, 95}, Info, 0},
	} {
		var s probe.Series
		for _, n := range test.seconds {
			s.Outcomes = append(s.Outcomes, probe.Outcome{End: test.end, After: time.Duration(n * float64(time.Second))})
		}
		e := &examination{Options: Options{ProbeTime: 95 * time.Second}, report: &Report{Probes: &Probes{}}}
		e.timeThreshold(s)
		if f := verdictOf(t, e.report, SectionProbes, "closes after a time"); f.Verdict != test.want || e.report.Probes.Seconds != test.found {
			t.Errorf("%s: %+v, %v", name, f, e.report.Probes.Seconds)
		}
	}
}

// The certificates are as long as those that they stand for.
func TestCertificates(t *testing.T) {
	link, err := linkCertificate()
	if err != nil {
		t.Fatal(err)
	}
	site, err := siteCertificate()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, der := range site.Certificate {
		sum += len(der)
	}
	if len(link.Certificate) != 1 || len(link.Certificate[0]) > 1200 || len(site.Certificate) != 3 || sum < 3500 || sum > 5500 {
		t.Errorf("a relay's has %d bytes, a site's %d in %d", len(link.Certificate[0]), sum, len(site.Certificate))
	}
}

// Each kind's conversation comes to its end over a connection that carries bytes unchanged.
func TestConversations(t *testing.T) {
	o, err := newOrigin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := o.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, kind := range Kinds {
		c := o.expect(kind)
		conn, err := net.Dial("tcp", o.address())
		if err != nil {
			t.Fatal(err)
		}
		if err := o.talk(t.Context(), conn, c); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if c.arrived.IsZero() {
			t.Errorf("%s: it is not known when the first byte arrived", kind)
		}
	}
}

// quiet is a connection whose close stays where it is.
type quiet struct{ net.Conn }

func (quiet) Close() error { return nil }

// A close that does not reach the other side is seen, as is one that does; and half-closes
// work over TCP in either direction.
func TestCloses(t *testing.T) {
	origin, err := measure.NewOrigin()
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	var last net.Conn
	wrap := func(c net.Conn) net.Conn { return c }
	path := &measure.Path{Origin: origin, Timeout: pttest.Patience, Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", origin.Addr())
		last = c
		return wrap(c), err
	}}
	if keeps, err := keepsOpen(t.Context(), path, pttest.Patience); keeps || err != nil {
		t.Errorf("TCP keeps open: %v, %v", keeps, err)
	}
	for _, byClient := range []bool{true, false} {
		if err := checkHalfClose(t.Context(), path, byClient); err != nil {
			t.Errorf("half-close by the client: %v: %v", byClient, err)
		}
	}
	wrap = func(c net.Conn) net.Conn { return quiet{c} }
	if keeps, err := keepsOpen(t.Context(), path, 50*time.Millisecond); !keeps || err != nil {
		t.Errorf("a close that is none: %v, %v", keeps, err)
	}
	last.Close()
	if err := checkHalfClose(t.Context(), path, true); err == nil {
		t.Error("a connection without a half-close has one")
	}
	last.Close()
}
