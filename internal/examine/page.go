package examine

import (
	_ "embed"
	"html/template"
	"io"
	"unicode"
	"unicode/utf8"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// WriteHTML writes a report as one page, which needs nothing else: its plots are drawn in it,
// for a light and for a dark screen, and there is no script.
func (r *Report) WriteHTML(w io.Writer) error {
	var sections []pageSection
	for _, s := range r.sections() {
		p := pageSection{Title: sentence(s.name), Findings: s.findings}
		switch s.name {
		case SectionLengths:
			for _, sample := range r.Samples {
				p.Plots = append(p.Plots, packetPlot(sample), timePlot(sample))
			}
		case SectionEntropy:
			p.Plots = append(p.Plots, entropyPlot("client", "up", r.Entropy.ToServer, r.Entropy.Random), entropyPlot("server", "down", r.Entropy.ToClient, r.Entropy.Random))
		}
		sections = append(sections, p)
	}
	return page.Execute(w, map[string]any{"Report": r, "Sections": sections})
}

type pageSection struct {
	Title    string
	Findings []Finding
	Plots    []plot
}

// sentence writes a text with a capital letter at the beginning.
func sentence(text string) string {
	first, n := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(first)) + text[n:]
}
