// Package rules holds published rules by which censors recognize what they block. Each is a
// function of recorded bytes.
package rules

import (
	"bytes"
	"math/bits"
)

// Rule is why a first payload is exempt from blocking as fully encrypted traffic.
type Rule string

// The rules, in the order and with the numbers of "How the Great Firewall of China Detects
// and Blocks Fully Encrypted Traffic" (USENIX Security 2023).
const (
	Popcount      Rule = "Ex1" // few or many bits are set
	PrintableSix  Rule = "Ex2" // the first six bytes are printable
	PrintableHalf Rule = "Ex3" // more than half of the bytes are printable
	PrintableRun  Rule = "Ex4" // more than 20 printable bytes follow each other
	KnownProtocol Rule = "Ex5" // it begins as TLS or HTTP does
)

// Names says what each rule looks at.
var Names = map[Rule]string{
	Popcount:      "bits set per byte",
	PrintableSix:  "first 6 bytes printable",
	PrintableHalf: "half of it printable",
	PrintableRun:  "21 printable bytes in a row",
	KnownProtocol: "begins as TLS or HTTP",
}

// The bounds of the rules.
const (
	fewBits, manyBits = 3.4, 4.6 // per byte
	longRun           = 20       // printable bytes
)

// BlockedShare is how often a connection that is not exempt was blocked when that was
// measured.
const BlockedShare = 0.263

// Exemptions returns the rules that exempt the payload of a client's first packet. One is
// enough; with none, the connection is blocked as fully encrypted. An empty payload is
// exempt by none.
func Exemptions(payload []byte) (all []Rule) {
	if len(payload) == 0 {
		return nil
	}
	ones, printable, run, longest := 0, 0, 0, 0
	for _, b := range payload {
		ones += bits.OnesCount8(b)
		if !isPrintable(b) {
			run = 0
			continue
		}
		printable++
		run++
		longest = max(longest, run)
	}
	average := float64(ones) / float64(len(payload))
	for _, test := range []struct {
		rule  Rule
		holds bool
	}{
		{Popcount, average <= fewBits || average >= manyBits},
		{PrintableSix, len(payload) >= 6 && allPrintable(payload[:6])},
		{PrintableHalf, 2*printable > len(payload)},
		{PrintableRun, longest > longRun},
		{KnownProtocol, knownProtocol(payload)},
	} {
		if test.holds {
			all = append(all, test.rule)
		}
	}
	return all
}

func isPrintable(b byte) bool { return 0x20 <= b && b <= 0x7e }

func allPrintable(text []byte) bool {
	for _, b := range text {
		if !isPrintable(b) {
			return false
		}
	}
	return true
}

// knownProtocol takes the versions of TLS as the paper has them; its authors' own detector
// takes a few more.
func knownProtocol(payload []byte) bool {
	for _, method := range []string{"GET ", "PUT ", "POST ", "HEAD "} {
		if bytes.HasPrefix(payload, []byte(method)) {
			return true
		}
	}
	return len(payload) >= 3 && (payload[0] == 0x16 || payload[0] == 0x17) && payload[1] == 3 && payload[2] <= 9
}
