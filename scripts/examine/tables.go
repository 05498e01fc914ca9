package main

import (
	"fmt"
	"slices"
	"strings"

	"waterproxy/internal/examine"
)

// column is a report with its title in a table.
type column struct {
	title  string
	report *examine.Report
}

// row is a line of a table: what it says of each report.
type row struct {
	title string
	of    func(*examine.Report) string
}

// seenRows are what an observer sees, and what it costs.
var seenRows = []row{
	{"blocked as fully encrypted", func(r *examine.Report) string { return fmt.Sprintf("%d of %d", r.First.Blocked, r.Flows) }},
	{"exempt by", func(r *examine.Report) string {
		var all []string
		for _, rule := range []string{"Ex1", "Ex2", "Ex3", "Ex4", "Ex5"} {
			for by, n := range r.First.ByRule {
				if string(by) == rule {
					all = append(all, fmt.Sprintf("%s (%d)", rule, n))
				}
			}
		}
		return strings.Join(all, ", ")
	}},
	{"TLS, known client", func(r *examine.Report) string {
		if r.TLS == nil {
			return "no TLS"
		}
		if len(r.TLS.Clients) == 0 {
			return "**none**"
		}
		return strings.Join(r.TLS.Clients, ", ")
	}},
	{"JA4", func(r *examine.Report) string {
		if r.TLS == nil {
			return ""
		}
		return fmt.Sprintf("%d different", len(r.TLS.JA4))
	}},
	found(examine.SectionLengths, "round trips before data"),
	found(examine.SectionLengths, "connections"),
	found(examine.SectionLengths, "client's packet 1"),
	found(examine.SectionLengths, "server's packet 1"),
	found(examine.SectionLengths, "fixed lengths"),
	{"TLS in TLS, flows that match", func(r *examine.Report) string {
		var all []string
		for _, in := range r.Inner {
			for _, kind := range examine.Kinds {
				if n := in.ByKind[kind]; n > 0 {
					all = append(all, fmt.Sprintf("%s: %s %d", in.Model, kind, n))
				}
			}
		}
		if all == nil {
			return "none"
		}
		return strings.Join(all, "<br>")
	}},
	found(examine.SectionEntropy, "client's fixed bytes"),
	found(examine.SectionProbes, "answers"),
	found(examine.SectionProbes, "closes after a time"),
	found(examine.SectionProbes, "closes after bytes"),
	{"a replay, a full or failing instance differ", func(r *examine.Report) string {
		var all []string
		for _, p := range r.Probes.Results {
			if p.Differs != "" {
				all = append(all, fmt.Sprintf("%s (%s): %s", p.Probe, p.Instance, p.Differs))
			}
		}
		if all == nil {
			return "no"
		}
		return strings.Join(all, "<br>")
	}},
	{"not survived", func(r *examine.Report) string {
		var all []string
		for _, t := range r.Survival {
			if !t.Survived {
				all = append(all, t.Name)
			}
		}
		if all == nil {
			return "nothing"
		}
		return strings.Join(all, "<br>")
	}},
	price("set-up"), price("download"), price("upload"), price("client's CPU"), price("server's CPU"),
	price("client's memory"), price("server's memory"),
}

// found is a row with the value of a finding; a bad one is bold.
func found(section, name string) row {
	return row{name, func(r *examine.Report) string {
		i := slices.IndexFunc(r.Findings, func(f examine.Finding) bool { return f.Section == section && f.Name == name })
		switch {
		case i < 0:
			return ""
		case r.Findings[i].Verdict == examine.Bad:
			return "**" + r.Findings[i].Value + "**"
		}
		return r.Findings[i].Value
	}}
}

// price is a row with what something costs, and plain's share beside.
func price(name string) row {
	return row{name, func(r *examine.Report) string {
		for _, p := range r.Cost.Figures {
			if p.Name != name {
				continue
			}
			text := fmt.Sprintf("%.3g %s", p.Median, p.Unit)
			if p.Plain != nil {
				text += fmt.Sprintf(" (plain %.3g)", *p.Plain)
			}
			return text
		}
		return ""
	}}
}

// seenTable is the table of what an observer sees.
func seenTable(columns []column) string { return table("", columns, seenRows) }

// probeTable has a row for each probe.
func probeTable(columns []column) string {
	var rows []row
	for _, p := range columns[0].report.Probes.Results {
		rows = append(rows, probeRow(p.Probe, p.Instance))
	}
	for _, c := range columns[1:] { // what the first has not been asked
		for _, p := range c.report.Probes.Results {
			if title := probeRow(p.Probe, p.Instance).title; !slices.ContainsFunc(rows, func(r row) bool { return r.title == title }) {
				rows = append(rows, probeRow(p.Probe, p.Instance))
			}
		}
	}
	return table("the prober sends", columns, rows)
}

func probeRow(probe, instance string) row {
	title := probe
	if instance != "normal" {
		title += "; the instance is " + instance
	}
	return row{title, func(r *examine.Report) string {
		for _, p := range r.Probes.Results {
			if p.Probe != probe || p.Instance != instance {
				continue
			}
			var ends []string
			for end, n := range p.Ends {
				if len(p.Ends) == 1 {
					ends = append(ends, string(end))
				} else {
					ends = append(ends, fmt.Sprintf("%s (%d)", end, n))
				}
			}
			slices.Sort(ends)
			text := fmt.Sprintf("%.2f – %.2f – %.2f, %s", p.Least, p.Median, p.Most, strings.Join(ends, ", "))
			if p.Answered > 0 {
				text += "; " + p.Answer
			}
			return text
		}
		return "not tried"
	}}
}

func table(corner string, columns []column, rows []row) string {
	var b strings.Builder
	write := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	head, line := []string{corner}, []string{"---"}
	for _, c := range columns {
		head, line = append(head, cell(c.title)), append(line, "---")
	}
	write(head...)
	write(line...)
	for _, r := range rows {
		cells := []string{r.title}
		for _, c := range columns {
			cells = append(cells, cell(r.of(c.report)))
		}
		write(cells...)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
