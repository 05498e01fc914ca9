package chart

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"strings"
	"testing"
)

// checkXML checks that a drawing is one document, and has the texts.
func checkXML(t *testing.T, svg []byte, texts ...string) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range texts {
		if !strings.Contains(string(svg), ">"+text+"<") {
			t.Errorf("the drawing has no %q", text)
		}
	}
}

// TestBars: what is better goes to the right of the line at 1, whichever direction is
// better, and what is not there has no bar.
func TestBars(t *testing.T) {
	var b bytes.Buffer
	rows := []Row{
		{"speed <1>", false, []float64{2}},
		{"time", true, []float64{0.5}},
		{"slower", false, []float64{0.25}},
		{"missing", false, []float64{math.NaN()}},
	}
	if err := Bars(&b, "a & b", "relay", []string{"ours"}, rows); err != nil {
		t.Fatal(err)
	}
	checkXML(t, b.Bytes(), "a &amp; b", "speed &lt;1&gt;", "as relay", "missing", "2", "0.5", "0.25")
	bars := strings.Split(b.String(), "<rect ")[2:] // after the legend's
	if len(bars) != 3 {
		t.Fatalf("%d bars, want 3", len(bars))
	}
	at := func(i int) string { return strings.SplitN(bars[i], `"`, 3)[1] }
	if at(0) != at(1) {
		t.Errorf("bars of what is better begin at %s and %s", at(0), at(1))
	}
	if at(2) >= at(0) {
		t.Errorf("the bar of what is worse begins at %s, and those of the others at %s", at(2), at(0))
	}
}

func TestGrowth(t *testing.T) {
	var b bytes.Buffer
	panels := []Panel{
		{"memory", [][]Point{{{10, 5}, {100, 50}}, {{10, 3}, {100, 79}}}},
		{"nothing", [][]Point{nil, nil}},
		{"one", [][]Point{{{10, 0}}, nil}},
	}
	if err := Growth(&b, "growth", []string{"a", "b"}, panels); err != nil {
		t.Fatal(err)
	}
	checkXML(t, b.Bytes(), "memory", "nothing measured", "80", "100")
	if n := strings.Count(b.String(), "<circle "); n != 5 {
		t.Errorf("%d points, want 5", n)
	}
}
