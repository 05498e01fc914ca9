package examine

import (
	"strings"
	"time"
	"unicode"

	"waterproxy/internal/examine/rules"
)

// Verdict is what a finding means for who wants to pass unseen.
type Verdict string

// The verdicts.
const (
	Good Verdict = "good" // by the published rules, this does not give it away
	Bad  Verdict = "bad"  // this does
	Info Verdict = "info" // depends on what it is to look like
)

// Finding is one line of a report. Its name, its section and what it fails on are stable;
// its words are for people.
type Finding struct {
	Section string  `json:"section"`
	Name    string  `json:"name"`
	Value   string  `json:"value"`
	Verdict Verdict `json:"verdict"`
	Meaning string  `json:"meaning"`
	// FailsOn is the word of --fail-on for which a bad verdict is a failure.
	FailsOn Word `json:"fails_on,omitempty"`
}

// The sections of a report, in their order.
const (
	SectionFirst    = "first payload"
	SectionTLS      = "TLS"
	SectionLengths  = "lengths"
	SectionInner    = "TLS in TLS"
	SectionEntropy  = "entropy"
	SectionProbes   = "probes"
	SectionCost     = "cost"
	SectionSurvival = "survival"
)

// Report is all that an examination has found. Times are in seconds, lengths in bytes.
type Report struct {
	Transport   string       `json:"transport"`
	Commands    []string     `json:"commands,omitempty"` // client and server; not set for modules
	Began       time.Time    `json:"began"`
	Took        float64      `json:"took_seconds"`
	Connections int          `json:"connections"`
	Flows       int          `json:"flows"` // TCP connections that carried them
	First       FirstPayload `json:"first_payload"`
	TLS         *TLS         `json:"tls,omitempty"` // of the flows; not set if none is TLS
	Lengths     Lengths      `json:"lengths"`
	Inner       []Inner      `json:"tls_in_tls"`
	Entropy     Entropy      `json:"entropy"`
	Probes      *Probes      `json:"probes,omitempty"`
	Cost        *Cost        `json:"cost,omitempty"`
	Survival    []Trial      `json:"survival,omitempty"`
	Samples     []Sample     `json:"samples"` // the first packets of one flow of each kind
	Findings    []Finding    `json:"findings"`
}

// FirstPayload says how the rules for fully encrypted traffic take the first payloads of
// clients.
type FirstPayload struct {
	Exempt  int                `json:"exempt"`
	Blocked int                `json:"blocked"`
	ByRule  map[rules.Rule]int `json:"by_rule"` // one may be exempt by several
}

// TLS is what an observer reads in the handshakes of the flows.
type TLS struct {
	Flows    int            `json:"flows"`
	Versions map[string]int `json:"versions"` // chosen by the server
	SNI      []string       `json:"sni"`      // each once, and no more than some
	ALPN     []string       `json:"alpn"`     // each list once, its names separated by commas
	JA3      int            `json:"ja3_distinct"`
	JA3One   string         `json:"ja3,omitempty"` // if it is the same in all
	JA4      map[string]int `json:"ja4"`
	Clients  []string       `json:"known_clients"`
}

// Lengths says which lengths packets have.
type Lengths struct {
	ToServer   []Position `json:"to_server"` // the first packets, in their order
	ToClient   []Position `json:"to_client"`
	RoundTrips int        `json:"round_trips"` // before the first byte of payload arrives
}

// Position is how long the packet at one position of a direction is, over all flows.
type Position struct {
	Flows          int          `json:"flows"`
	Least          int          `json:"least"`
	Median         int          `json:"median"`
	Most           int          `json:"most"`
	Distinct       int          `json:"distinct"`
	Fixed          map[Kind]int `json:"fixed,omitempty"` // the one length of nearly all flows of a kind, unless it is that of full packets
	CommonestShare float64      `json:"commonest_share"`
}

// Inner is how near flows come to a published model of a TLS handshake inside.
type Inner struct {
	Model     string       `json:"model"`
	Threshold float64      `json:"threshold"`
	Least     *float64     `json:"least_distance,omitempty"` // not set if no flow has bursts enough
	Matches   int          `json:"matches"`
	ByKind    map[Kind]int `json:"matches_by_kind"`
}

// Entropy is how many bits of information the bytes of first payloads have, by position.
type Entropy struct {
	ToServer []float64 `json:"to_server"`
	ToClient []float64 `json:"to_client"`
	Random   float64   `json:"of_random_bytes"` // what random bytes would have over as many flows
}

// Sample is the beginning of one flow.
type Sample struct {
	Kind    Kind           `json:"kind"`
	Packets []SamplePacket `json:"packets"`
}

// SamplePacket is one packet of a sample.
type SamplePacket struct {
	Direction string  `json:"direction"`
	At        float64 `json:"at_seconds"`
	Length    int     `json:"length"`
}

// add adds a finding. What a module sends may be in its words, and is made harmless for
// terminals.
func (r *Report) add(section, name string, verdict Verdict, word Word, value, meaning string) {
	r.Findings = append(r.Findings, Finding{Section: section, Name: name, Value: harmless(value), Verdict: verdict, Meaning: harmless(meaning), FailsOn: word})
}

// harmless replaces what is no printable character.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// verdict is Bad if something holds that should not, and Good otherwise.
func verdict(bad bool) Verdict {
	if bad {
		return Bad
	}
	return Good
}
