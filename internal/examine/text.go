package examine

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// textWidth is how wide lines with a meaning are.
const textWidth = 100

// WriteText writes a report for a terminal: a section after the other, each finding with its
// value and verdict, and below what it means.
func (r *Report) WriteText(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%s: %d connections over %d flows, %.0f s\n", r.Transport, r.Connections, r.Flows, r.Took)
	for _, section := range r.sections() {
		fmt.Fprintf(b, "\n%s\n", section.name)
		width := 0
		for _, f := range section.findings {
			width = max(width, utf8.RuneCountInString(f.Name))
		}
		for _, f := range section.findings {
			fmt.Fprintf(b, "  %s  %-4s  %s\n", padded(f.Name, width), f.Verdict, f.Value)
			for _, line := range wrapped(f.Meaning, textWidth-6) {
				fmt.Fprintf(b, "      %s\n", line)
			}
		}
	}
	return b.Flush()
}

func padded(s string, width int) string {
	return s + strings.Repeat(" ", max(width-utf8.RuneCountInString(s), 0))
}

// wrapped breaks a text between words.
func wrapped(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

type section struct {
	name     string
	findings []Finding
}

// sections returns the findings of each section that has some, in the order of sections.
func (r *Report) sections() (all []section) {
	for _, name := range []string{SectionFirst, SectionTLS, SectionLengths, SectionInner, SectionEntropy, SectionProbes, SectionCost, SectionSurvival} {
		s := section{name: name}
		for _, f := range r.Findings {
			if f.Section == name {
				s.findings = append(s.findings, f)
			}
		}
		if len(s.findings) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// WriteJSON writes a report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}
