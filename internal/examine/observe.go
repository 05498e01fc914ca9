package examine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"waterproxy/internal/examine/record"
	"waterproxy/internal/examine/rules"
	"waterproxy/internal/fingerprint"
)

// flow is a recorded one, and what it carried.
type flow struct {
	record.Flow
	kind Kind
	tls  *fingerprint.ClientHello // nil if it is not TLS
}

const (
	// nearlyAll is the share of flows from which on something counts as always so.
	nearlyAll = 0.95
	// fewest is how many flows it takes to call something always so.
	fewest = 10
	// positions is at how many packets of each direction lengths are looked at.
	positions = 5
	// entropyBytes is at how many bytes of a payload entropy is looked at.
	entropyBytes = 128
	// samplePackets is how many packets of a flow a sample has.
	samplePackets = 50
	// shownNames is how many different names a report lists.
	shownNames = 3
)

// observe fills the parts of a report that come from recorded flows.
func (r *Report) observe(flows []flow) error {
	r.Flows = len(flows)
	for i := range flows {
		h, err := fingerprint.ParseClientHello(flows[i].Stream(record.ToServer))
		if err == nil {
			flows[i].tls = h
		} else if !errors.Is(err, fingerprint.ErrNotClientHello) && !errors.Is(err, fingerprint.ErrIncomplete) {
			return err
		}
	}
	r.observeFirst(flows)
	if err := r.observeTLS(flows); err != nil {
		return err
	}
	r.observeLengths(flows)
	r.observeInner(flows)
	r.observeEntropy(flows)
	for _, kind := range Kinds {
		if i := slices.IndexFunc(flows, func(f flow) bool { return f.kind == kind }); i >= 0 {
			r.Samples = append(r.Samples, sample(&flows[i]))
		}
	}
	return nil
}

func sample(f *flow) Sample {
	s := Sample{Kind: f.kind}
	packets := f.Packets()
	for _, p := range packets[:min(len(packets), samplePackets)] {
		s.Packets = append(s.Packets, SamplePacket{p.Direction.String(), p.At.Seconds(), p.Length})
	}
	return s
}

func (r *Report) observeFirst(flows []flow) {
	r.First.ByRule = map[rules.Rule]int{}
	for i := range flows {
		by := rules.Exemptions(flows[i].FirstPayload(record.ToServer))
		if len(by) == 0 {
			r.First.Blocked++
			continue
		}
		r.First.Exempt++
		for _, rule := range by {
			r.First.ByRule[rule]++
		}
	}
	value := fmt.Sprintf("%d of %d", r.First.Blocked, r.Flows)
	meaning := "Each first packet is exempt by a rule for fully encrypted traffic."
	if r.First.Blocked > 0 {
		meaning = fmt.Sprintf("To the censor these look like nothing, which it blocked with a probability of %.0f %% in what was measured.", 100*rules.BlockedShare)
	}
	r.add(SectionFirst, "blocked", verdict(r.First.Blocked > 0), Blocked, value, meaning)
	for _, rule := range slices.Sorted(maps.Keys(rules.Names)) {
		if n := r.First.ByRule[rule]; n > 0 {
			r.add(SectionFirst, "exempt by "+string(rule), Info, "", fmt.Sprintf("%d of %d", n, r.Flows), "Rule: "+rules.Names[rule]+".")
		}
	}
}

func (r *Report) observeTLS(flows []flow) error {
	t := &TLS{Versions: map[string]int{}, JA4: map[string]int{}}
	ja3, names := map[string]bool{}, map[string]bool{}
	sni, alpn := map[string]bool{}, map[string]bool{}
	for i := range flows {
		h := flows[i].tls
		if h == nil {
			continue
		}
		t.Flows++
		t.JA4[h.JA4()]++
		ja3[h.JA3()] = true
		sni[cmp.Or(h.ServerName, "none")] = true
		alpn[cmp.Or(strings.Join(h.ALPN, ","), "none")] = true
		known, err := fingerprint.Identify(h)
		if err != nil {
			return err
		}
		for _, name := range known {
			names[name] = true
		}
		version := "none, no answer"
		if s, err := fingerprint.ParseServerHello(flows[i].Stream(record.ToClient)); err == nil {
			version = versionName(s.Version)
		}
		t.Versions[version]++
	}
	if t.Flows == 0 {
		r.add(SectionTLS, "TLS", Info, "", fmt.Sprintf("0 of %d", r.Flows), "It is not TLS: neither SNI nor a client's fingerprint can be blocked, and nothing else hides it.")
		return nil
	}
	r.TLS = t
	t.JA3, t.SNI, t.ALPN, t.Clients = len(ja3), some(sni), some(alpn), slices.Sorted(maps.Keys(names))
	if len(ja3) == 1 {
		t.JA3One = slices.Collect(maps.Keys(ja3))[0]
	}
	r.add(SectionTLS, "TLS", verdict(t.Flows != r.Flows), "", fmt.Sprintf("%d of %d", t.Flows, r.Flows), "It begins with a ClientHello, as most of what is on the Internet.")
	r.add(SectionTLS, "version", Info, "", counted(t.Versions), "The version that the server has chosen.")
	r.add(SectionTLS, "SNI", Info, "", list(t.SNI, len(sni)), "The name that the client asks for, in the clear; censors block by it before anything else.")
	r.add(SectionTLS, "ALPN", Info, "", list(t.ALPN, len(alpn)), "The protocols that the client offers inside; browsers offer h2,http/1.1, and http/1.1 for WebSockets.")
	if t.JA3One != "" {
		r.add(SectionTLS, "JA3", Info, "", t.JA3One, "The same in all; a browser that shuffles its extensions has another one with each connection.")
	} else {
		r.add(SectionTLS, "JA3", Info, "", fmt.Sprintf("%d different ones", t.JA3), "Extensions are shuffled, as recent browsers do, or clients differ.")
	}
	r.add(SectionTLS, "JA4", Info, "", counted(t.JA4), "One for each client that is imitated, and one for sessions that it resumes; more are a sign of chance, which no browser has.")
	value, v, meaning := strings.Join(t.Clients, ", "), Good, "A censor who blocks this fingerprint blocks these clients as well."
	if len(t.Clients) == 0 {
		value, v, meaning = "none", Bad, "No known client has this fingerprint: it can be blocked alone."
	}
	r.add(SectionTLS, "known client", v, UnknownClient, value, meaning)
	return nil
}

// isTLS reports whether all flows are TLS to an observer.
func (r *Report) isTLS() bool { return r.TLS != nil && r.TLS.Flows == r.Flows }

func versionName(v uint16) string {
	switch v {
	case 0x0304:
		return "TLS 1.3"
	case 0x0303:
		return "TLS 1.2"
	}
	return fmt.Sprintf("%#04x", v)
}

// some returns a few of a set, in order.
func some(set map[string]bool) []string {
	all := slices.Sorted(maps.Keys(set))
	return all[:min(len(all), shownNames)]
}

// list writes what some has returned of so many.
func list(shown []string, all int) string {
	text := strings.Join(shown, " ")
	if all > len(shown) {
		text += fmt.Sprintf(" and %d more", all-len(shown))
	}
	return text
}

// counted writes values with the number of each, the commonest first.
func counted(counts map[string]int) string {
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var words []string
	for i, key := range keys {
		if i == shownNames {
			words = append(words, fmt.Sprintf("and %d more", len(keys)-i))
			break
		}
		words = append(words, fmt.Sprintf("%s (%d)", key, counts[key]))
	}
	return strings.Join(words, ", ")
}

func (r *Report) observeLengths(flows []flow) {
	r.Lengths.ToServer = lengthsOf(flows, record.ToServer)
	r.Lengths.ToClient = lengthsOf(flows, record.ToClient)
	isTLS := r.isTLS()
	fixed := 0
	for _, d := range []struct {
		name string
		at   []Position
	}{{"client", r.Lengths.ToServer}, {"server", r.Lengths.ToClient}} {
		for i, p := range d.at {
			value := fmt.Sprintf("%d – %d – %d", p.Least, p.Median, p.Most)
			meaning := fmt.Sprintf("Least, median and most; %d different lengths in %d flows.", p.Distinct, p.Flows)
			if len(p.Fixed) > 0 {
				fixed++
				meaning += " Always the same for " + fixedText(p.Fixed) + "."
			}
			r.add(SectionLengths, fmt.Sprintf("%s's packet %d", d.name, i+1), Info, "", value, meaning)
		}
	}
	switch {
	case fixed == 0:
		r.add(SectionLengths, "fixed lengths", Good, FixedLength, "none", "None of the first packets has one length by which it is known.")
	case isTLS:
		r.add(SectionLengths, "fixed lengths", Info, FixedLength, fmt.Sprintf("%d positions", fixed), "In TLS that is usual: a client's first message has one length, or few.")
	default:
		r.add(SectionLengths, "fixed lengths", Bad, FixedLength, fmt.Sprintf("%d positions", fixed), "A packet that has the same length in all connections is a rule to block by.")
	}
}

func fixedText(fixed map[Kind]int) string {
	var words []string
	for _, kind := range Kinds {
		if n, ok := fixed[kind]; ok {
			words = append(words, fmt.Sprintf("%s (%d)", kind, n))
		}
	}
	return strings.Join(words, ", ")
}

// lengthsOf looks at the first packets of a direction.
func lengthsOf(flows []flow, d record.Direction) (all []Position) {
	byPosition := make([]map[Kind][]int, positions)
	for i := range flows {
		n := 0
		for _, p := range flows[i].Packets() {
			if p.Direction != d || n == positions {
				continue
			}
			if byPosition[n] == nil {
				byPosition[n] = map[Kind][]int{}
			}
			byPosition[n][flows[i].kind] = append(byPosition[n][flows[i].kind], p.Length)
			n++
		}
	}
	for _, kinds := range byPosition {
		var lengths []int
		p := Position{Fixed: map[Kind]int{}}
		for kind, list := range kinds {
			lengths = append(lengths, list...)
			if length, n := commonest(list); length != record.MSS && len(list) >= fewest && float64(n) >= nearlyAll*float64(len(list)) {
				p.Fixed[kind] = length
			}
		}
		if len(lengths) == 0 {
			break
		}
		slices.Sort(lengths)
		p.Flows, p.Least, p.Median, p.Most = len(lengths), lengths[0], lengths[len(lengths)/2], lengths[len(lengths)-1]
		_, n := commonest(lengths)
		p.CommonestShare = float64(n) / float64(len(lengths))
		p.Distinct = len(slices.Compact(lengths))
		all = append(all, p)
	}
	return all
}

// commonest returns the length that most have, and how many.
func commonest(lengths []int) (length, count int) {
	counts := map[int]int{}
	for _, n := range lengths {
		if counts[n]++; counts[n] > count || counts[n] == count && n < length {
			length, count = n, counts[n]
		}
	}
	return length, count
}

func (r *Report) observeInner(flows []flow) {
	any := 0
	matched := make([]bool, len(flows))
	for _, model := range rules.Models {
		in := Inner{Model: model.Name, Threshold: model.Threshold, ByKind: map[Kind]int{}}
		least := math.Inf(1)
		for i := range flows {
			nearest := math.Inf(1)
			for _, g := range rules.FourGrams(flows[i].Packets(), flows[i].tls != nil) {
				nearest = min(nearest, model.Distance(g))
			}
			least = min(least, nearest)
			if nearest < model.Threshold {
				in.Matches++
				in.ByKind[flows[i].kind]++
				if !matched[i] {
					matched[i] = true
					any++
				}
			}
		}
		value := "no bursts that count"
		if !math.IsInf(least, 1) {
			in.Least = &least
			value = fmt.Sprintf("%d of %d, least distance %.1f", in.Matches, r.Flows, least)
		}
		meaning := fmt.Sprintf("Flows whose bursts are nearer than %.1f to those of this handshake", model.Threshold)
		if in.Matches > 0 {
			meaning += ": " + kindsText(in.ByKind)
		}
		r.Inner = append(r.Inner, in)
		r.add(SectionInner, model.Name, verdict(in.Matches > 0), "", value, meaning+".")
	}
	meaning := "No flow looks as if it carried a TLS handshake."
	if any > 0 {
		meaning = "A detector that ships in nDPI, though not switched on, takes these for TLS inside of something else."
	}
	r.add(SectionInner, "any model", verdict(any > 0), TLSInTLS, fmt.Sprintf("%d of %d", any, r.Flows), meaning)
}

func kindsText(counts map[Kind]int) string {
	var words []string
	for _, kind := range Kinds {
		if n := counts[kind]; n > 0 {
			words = append(words, fmt.Sprintf("%s (%d)", kind, n))
		}
	}
	return strings.Join(words, ", ")
}

func (r *Report) observeEntropy(flows []flow) {
	r.Entropy.Random = rules.RandomEntropy(len(flows))
	isTLS := r.isTLS()
	for _, d := range []struct {
		direction record.Direction
		name      string
		bits      *[]float64
	}{{record.ToServer, "client", &r.Entropy.ToServer}, {record.ToClient, "server", &r.Entropy.ToClient}} {
		var payloads [][]byte
		for i := range flows {
			if p := flows[i].FirstPayload(d.direction); p != nil {
				payloads = append(payloads, p)
			}
		}
		*d.bits = rules.Entropy(payloads, entropyBytes)
		if len(payloads) < fewest {
			r.add(SectionEntropy, d.name+"'s fixed bytes", Info, "", fmt.Sprintf("flows: %d", len(payloads)), "Too few to tell what is always the same.")
			continue
		}
		fixed := fixedPositions(*d.bits)
		v, meaning := Bad, "Bytes that are the same in all connections are a rule to block by."
		switch {
		case fixed == "none":
			v, meaning = Good, fmt.Sprintf("No byte of the first %d is the same in all connections.", len(*d.bits))
		case isTLS:
			v, meaning = Info, "In TLS that is usual."
		}
		r.add(SectionEntropy, d.name+"'s fixed bytes", v, FixedBytes, fixed, meaning)
		low, sum := math.Inf(1), 0.0
		for _, b := range *d.bits {
			low = min(low, b)
			sum += b / float64(len(*d.bits))
		}
		r.add(SectionEntropy, d.name+"'s bits per byte", Info, "", fmt.Sprintf("%.2f, at least %.2f", sum, low),
			fmt.Sprintf("By position, over the flows; random bytes of as many have %.2f.", rules.RandomEntropy(len(payloads))))
	}
}

// fixedPositions writes the positions without entropy, as in "0-2, 5".
func fixedPositions(bits []float64) string {
	var words []string
	for i := 0; i < len(bits); i++ {
		if bits[i] > 0 {
			continue
		}
		begin := i
		for i+1 < len(bits) && bits[i+1] == 0 {
			i++
		}
		if i == begin {
			words = append(words, fmt.Sprint(begin))
		} else {
			words = append(words, fmt.Sprintf("%d-%d", begin, i))
		}
	}
	if len(words) == 0 {
		return "none"
	}
	if len(words) > shownNames {
		words = append(words[:shownNames], fmt.Sprintf("and %d more", len(words)-shownNames))
	}
	return strings.Join(words, ", ")
}

// roundTrips is how often the client of a flow waited before the payload arrived.
func roundTrips(f *record.Flow, arrived time.Time) int { return f.RoundTrips(arrived.Sub(f.Began)) }
