package prefix

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

// The values of Outline's access keys have Outline's meaning.
func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"POST%20":                  "POST ",
		"POST+":                    "POST ",
		"HTTP%2F1.1%20":            "HTTP/1.1 ",
		"SSH-2.0%0D%0A":            "SSH-2.0\r\n",
		"%16%03%01%40%00%01%01":    "\x16\x03\x01\x40\x00\x01\x01",
		"%16%03%01%00%C2%A8%01%01": "\x16\x03\x01\x00\xa8\x01\x01",
		"%C3%BF":                   "\xff",
		"\u00ff":                   "\xff",
		"%25p":                     "%p",
		"%00%7F%C2%80":             "\x00\x7f\x80",
	} {
		p, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := make([]byte, len(p))
		p.Fill(got)
		if string(got) != want || !p.Match([]byte(want+"more")) || p.Match([]byte(want)[:len(want)-1]) || p.FixedBits() != float64(8*len(want)) {
			t.Errorf("%s: %q, %v bits, want %q", text, got, p.FixedBits(), want)
		}
		again, err := Parse(p.String())
		if err != nil || again.String() != p.String() || !again.Match(got) {
			t.Errorf("%s is written as %s, which is read as %v, %v", text, p, again, err)
		}
		if strings.ContainsAny(p.String(), " ,=\\#\";:+") {
			t.Errorf("%s is written as %s, which a bridge line cannot carry", text, p)
		}
	}
}

func TestBadValues(t *testing.T) {
	for text, want := range map[string]string{
		"":             "empty",
		"%":            "not URL-encoded",
		"%1":           "not URL-encoded",
		"%zz":          "not URL-encoded",
		"%%p":          "not URL-encoded",
		"%P":           "not URL-encoded",
		"%E2%82%AC":    "beyond U+00FF",
		"%A8":          "beyond U+00FF", // no UTF-8
		"hidden%FFxyz": "beyond U+00FF",
	} {
		p, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v, %v, want an error with %q", text, p, err, want)
		}
	}
}

// Drawn bytes differ, are all printable ones, and match.
func TestDrawn(t *testing.T) {
	p, err := Parse("GET%20/%p%p%p")
	if err != nil || p.String() != "GET%20%2F%p%p%p" {
		t.Fatalf("%v, %v", p, err)
	}
	if want := 8*8 - 3*math.Log2(95); math.Abs(p.FixedBits()-want) > 1e-9 {
		t.Errorf("%v bits, want %v", p.FixedBits(), want)
	}
	seen := map[byte]bool{}
	got := make([]byte, len(p))
	for range 5000 {
		p.Fill(got)
		if !bytes.HasPrefix(got, []byte("GET /")) || !p.Match(got) {
			t.Fatalf("%q", got)
		}
		for _, b := range got[5:] {
			seen[b] = true
		}
	}
	if len(seen) != printable || !seen[' '] || !seen['~'] {
		t.Errorf("of %d printable bytes %d were drawn", printable, len(seen))
	}
	for _, other := range []string{"GET /ab\x1f", "GET /ab\x7f", "GET /ab\xff", "GET /ab", "get /abc"} {
		if p.Match([]byte(other)) {
			t.Errorf("%q matches", other)
		}
	}
}
