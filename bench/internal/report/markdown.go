package report

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"waterproxy/internal/measure"
)

// absent stands in a cell for which there is nothing to measure.
const absent = "–"

// WriteMarkdown writes the whole report: the facts of the machine, the
// contestants, the medians, the ratios to the baseline, and the failures.
func (r *Report) WriteMarkdown(w io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", r.Title)
	for _, line := range r.Machine.lines() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	b.WriteString("\n")
	contestants := [][]string{{"contestant", "how it was run"}}
	for _, c := range r.Contestants {
		contestants = append(contestants, []string{c.Name, c.About})
	}
	writeTable(&b, contestants)

	header := []string{"median (min..max, n)"}
	for _, c := range r.Contestants {
		header = append(header, c.Name)
	}
	b.WriteString("\n")
	writeTable(&b, append([][]string{header}, r.rows(r.cell)...))

	if r.Baseline != "" && len(r.Contestants) > 1 {
		fmt.Fprintf(&b, "\n### Ratio to %s, round by round\n\n", r.Baseline)
		header[0] = "median (min..max)"
		writeTable(&b, append([][]string{header}, r.ratioRows()...))
	}
	b.WriteString("\n### Failures (test and round)\n\n")
	if len(r.failures) == 0 {
		b.WriteString("None.\n")
	}
	for _, line := range r.failureLines() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// failureLines lists the failures; those of one contestant that read the same are
// one line with all the places where they happened.
func (r *Report) failureLines() []string {
	type kind struct{ contestant, text string }
	places := make(map[kind][]string)
	var order []kind
	for _, f := range r.failures {
		k := kind{f.Contestant, oneLine(f.Error)}
		if places[k] == nil {
			order = append(order, k)
		}
		place := f.Test
		if f.Round > 0 {
			place = fmt.Sprintf("%s %d", f.Test, f.Round)
		}
		places[k] = append(places[k], place)
	}
	var lines []string
	for _, k := range order {
		lines = append(lines, fmt.Sprintf("**%s** (%s): %s", k.contestant, strings.Join(places[k], ", "), k.text))
	}
	return lines
}

// rows renders every metric for which some contestant has a value. A test's
// first metric is always shown, so that a test that failed for all is.
func (r *Report) rows(cell func(section, measure.Metric, string) string) [][]string {
	var rows [][]string
	for _, t := range r.tests {
		for i, m := range t.metrics {
			if i > 0 && !r.hasValues(m.Key) {
				continue
			}
			row := []string{label(m)}
			for _, c := range r.Contestants {
				row = append(row, cell(t, m, c.Name))
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// ratioRows renders the ratios of the metrics that have a better direction.
func (r *Report) ratioRows() [][]string {
	var rows [][]string
	for _, t := range r.tests {
		for _, m := range t.metrics {
			if m.Better == measure.Neutral || measure.Summarize(r.samples[m.Key][r.Baseline]).N == 0 {
				continue
			}
			row := []string{fmt.Sprintf("%s, %s is better", m.Label, m.Better)}
			for _, c := range r.Contestants {
				row = append(row, r.ratioCell(t, m, c.Name))
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func (r *Report) hasValues(key string) bool {
	for _, c := range r.Contestants {
		if measure.Summarize(r.samples[key][c.Name]).N > 0 {
			return true
		}
	}
	return false
}

// cell renders one measure of one contestant. A round that should have yielded a
// value and did not, because the test failed, is counted in the cell.
func (r *Report) cell(t section, m measure.Metric, contestant string) string {
	values := r.samples[m.Key][contestant]
	s := measure.Summarize(values)
	failed := r.failedRounds(t, contestant, values)
	var text string
	switch {
	case s.N == 0 && failed == 0:
		return absent
	case s.N == 0:
		return fmt.Sprintf("**FAILED** %d of %d", failed, t.rounds)
	case m.Of > 0:
		text = countText(values, m.Of)
	case s.N == 1:
		text = Quantity(m, s.Median)
	default:
		text = fmt.Sprintf("%s (%s..%s, n=%d)", Quantity(m, s.Median), Quantity(m, s.Min), Quantity(m, s.Max), s.N)
	}
	if failed > 0 {
		text += fmt.Sprintf(", **FAILED** %d of %d", failed, t.rounds)
	}
	return text
}

func (r *Report) ratioCell(t section, m measure.Metric, contestant string) string {
	values := r.samples[m.Key][contestant]
	s := measure.Summarize(measure.Ratios(values, r.samples[m.Key][r.Baseline]))
	switch {
	case s.N == 0 && r.failedRounds(t, contestant, values) > 0:
		return "**FAILED**"
	case s.N == 0:
		return absent
	case contestant == r.Baseline:
		return "1"
	case s.N == 1:
		return Number(s.Median)
	}
	return fmt.Sprintf("%s (%s..%s)", Number(s.Median), Number(s.Min), Number(s.Max))
}

// countText renders successes out of so many, all rounds together.
func countText(values []float64, of int) string {
	var got, tries int
	for _, v := range values {
		if math.IsNaN(v) {
			continue
		}
		got += int(v)
		tries += of
	}
	text := fmt.Sprintf("%d of %d", got, tries)
	if got < tries {
		return "**" + text + "**"
	}
	return text
}

// failedRounds counts the rounds of a test that failed for a contestant and left
// no value.
func (r *Report) failedRounds(t section, contestant string, values []float64) int {
	failed := make(map[int]bool)
	for _, f := range r.failures {
		if f.Contestant != contestant || f.Test != t.name || f.Round == 0 {
			continue
		}
		if i := f.Round - 1; i < len(values) && !math.IsNaN(values[i]) {
			continue
		}
		failed[f.Round] = true
	}
	return len(failed)
}

func label(m measure.Metric) string {
	if m.Unit == "" {
		return m.Label
	}
	return m.Label + ", " + m.Unit
}

// Quantity renders a value of a metric; a metric without a unit counts something.
func Quantity(m measure.Metric, v float64) string {
	if m.Unit == "" && v == math.Trunc(v) {
		return fmt.Sprintf("%.0f", v)
	}
	return Number(v)
}

// Number renders a value with two or three significant digits.
func Number(v float64) string {
	digits := 2
	for size := math.Abs(v); size >= 1 && digits > 0; size /= 10 {
		digits--
	}
	if v != 0 && math.Abs(v) < 0.1 {
		return fmt.Sprintf("%.2g", v)
	}
	return fmt.Sprintf("%.*f", digits, v)
}

// writeTable writes a Markdown table whose columns line up as plain text, too.
func writeTable(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for i, row := range rows {
		for k := range row {
			rows[i][k] = strings.ReplaceAll(oneLine(row[k]), "|", `\|`)
			widths[k] = max(widths[k], utf8.RuneCountInString(rows[i][k]), 3)
		}
	}
	line := func(cells []string) {
		b.WriteString("|")
		for k, c := range cells {
			b.WriteString(" " + c + strings.Repeat(" ", widths[k]-utf8.RuneCountInString(c)) + " |")
		}
		b.WriteString("\n")
	}
	line(rows[0])
	b.WriteString("|")
	for _, n := range widths {
		b.WriteString(strings.Repeat("-", n+2) + "|")
	}
	b.WriteString("\n")
	for _, row := range rows[1:] {
		line(row)
	}
}

// oneLine joins the lines of a text, such as that of joined errors.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(c rune) bool { return c == '\n' || c == '\r' }), "; ")
}
