package examine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Word names a kind of finding for which an examination is to fail.
type Word string

// The words.
const (
	Blocked       Word = "blocked"
	UnknownClient Word = "unknown-client"
	FixedLength   Word = "fixed-length"
	FixedBytes    Word = "fixed-bytes"
	TLSInTLS      Word = "tls-in-tls"
	ProbeAnswered Word = "probe-answered"
	ProbeDiffers  Word = "probe-differs"
	Threshold     Word = "threshold"
	Survives      Word = "survives"
)

// Words says when an examination fails for each word.
var Words = map[Word]string{
	Blocked:       "a first payload is not exempt from blocking as fully encrypted traffic",
	UnknownClient: "it is TLS, and no known client has its fingerprint",
	FixedLength:   "it is not TLS, and one of the first packets always has the same length",
	FixedBytes:    "it is not TLS, and bytes of the first payload are always the same",
	TLSInTLS:      "a connection matches a published model of a TLS handshake inside",
	ProbeAnswered: "a prober who knows nothing gets bytes of a protocol that it did not speak",
	ProbeDiffers:  "a replay, a full or a failed instance differ from what is normal",
	Threshold:     "connections are closed after a number of bytes or at a fixed time",
	Survives:      "something is lost or held up by a half-close, a close or a slow reader",
}

// ParseWords reads a list with commas. An unknown word is an error.
func ParseWords(list string) (words []Word, err error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	for text := range strings.SplitSeq(list, ",") {
		word := Word(strings.TrimSpace(text))
		if Words[word] == "" {
			known := slices.Sorted(maps.Keys(Words))
			return nil, fmt.Errorf("%q is nothing to fail on; there are %v", word, known)
		}
		words = append(words, word)
	}
	return words, nil
}

// Failures returns the findings that are bad and fail on one of the words.
func (r *Report) Failures(words []Word) (all []Finding) {
	for _, f := range r.Findings {
		if f.Verdict == Bad && f.FailsOn != "" && slices.Contains(words, f.FailsOn) {
			all = append(all, f)
		}
	}
	return all
}
