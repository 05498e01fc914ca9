package bridgeline

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Mail programs, word processors, web pages and shells put quotes round a line. The
// certain ones are part of no bridge line; the ambiguous ones may belong to a value.
const (
	certainQuotes   = `"“”„‟«»‹›‘’‚‛´＂＇「」『』`
	ambiguousQuotes = "'`"
)

// words splits a line as it was pasted: without quotes round it or parts of it, and
// without characters that have no width. Any kind of space separates.
func words(s string) ([]string, error) {
	s = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, s)
	inside := strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || isQuote(r) })
	if strings.ContainsAny(inside, "\n\r\v\f\u0085\u2028\u2029") {
		return nil, errors.New("there is more than one line; give one bridge line, without line breaks")
	}
	all := unquote(strings.Fields(s))
	for _, w := range all {
		if strings.ContainsFunc(w, unicode.IsControl) {
			return nil, fmt.Errorf("%s has a control character in it; copy the bridge line again", quoted(w))
		}
	}
	return all, nil
}

func isCertain(r rune) bool { return strings.ContainsRune(certainQuotes, r) }
func isQuote(r rune) bool   { return isCertain(r) || strings.ContainsRune(ambiguousQuotes, r) }

// unquote takes quotes away: round words, round values, and round several words. An
// ambiguous one goes if it has its partner.
func unquote(fields []string) (all []string) {
	open := 0 // words that begin with a quote, less those that end with one
	for _, w := range fields {
		bare := strings.TrimLeftFunc(w, isQuote)
		if bare != w {
			open++
		}
		if key, value, ok := strings.Cut(bare, "="); ok {
			bare = key + "=" + unquoteValue(value)
		}
		ended := strings.TrimRightFunc(bare, func(r rune) bool { return isCertain(r) || open > 0 && isQuote(r) })
		if ended != bare && open > 0 {
			open--
		}
		if ended != "" {
			all = append(all, ended)
		}
	}
	return all
}

func unquoteValue(value string) string {
	value = strings.TrimLeftFunc(value, isCertain)
	if n := len(value); n >= 2 && value[0] == value[n-1] && strings.IndexByte(ambiguousQuotes, value[0]) >= 0 {
		return value[1 : n-1]
	}
	return value
}

// quoted shows a word in a message: control characters escaped, and not all of a long one.
func quoted(word string) string {
	const most = 60
	if runes := []rune(word); len(runes) > most {
		word = string(runes[:most]) + "..."
	}
	return fmt.Sprintf("%q", word)
}
