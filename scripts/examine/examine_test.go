package main

import (
	"strings"
	"testing"

	"waterproxy/internal/examine"
	"waterproxy/internal/examine/probe"
)

// The template names subjects that there are, and each is in a table.
func TestRender(t *testing.T) {
	reports := map[string]*examine.Report{}
	for _, s := range subjects(&front{}) {
		plain := 2.0
		r := &examine.Report{Transport: s.name, Connections: 200, Flows: 200}
		r.First.Blocked = 7
		r.Probes = &examine.Probes{Times: 100, Limit: 70, Results: []examine.ProbeResult{
			{Probe: "nothing", Instance: "normal", Ends: map[probe.End]int{probe.FIN: 100}, Least: 1, Median: 2, Most: 3},
			{Probe: "nothing", Instance: "full", Ends: map[probe.End]int{probe.FIN: 99, probe.RST: 1}, Differs: "RST, and not FIN"},
		}}
		r.Cost = &examine.Cost{Rounds: 5, Figures: []examine.Price{{Name: "set-up", Unit: "ms", Median: 1.234, Plain: &plain}}}
		r.Findings = []examine.Finding{{Section: examine.SectionProbes, Name: "answers", Verdict: examine.Bad, Value: "a | b"}}
		reports[s.name] = r
	}
	text, err := render(reports, &front{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| blocked as fully encrypted | 7 of 200 |", "| set-up | 1.23 ms (plain 2) |", `| answers | **a \| b** |`,
		"| nothing | 1.00 – 2.00 – 3.00, FIN |", "nothing (full): RST, and not FIN", "| nothing; the instance is full | 0.00 – 0.00 – 0.00, FIN (99), RST (1) |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text has no %q", want)
		}
	}
	for _, s := range subjects(&front{}) {
		if n := strings.Count(text, " "+s.title+" |"); n != 2 {
			t.Errorf("%s heads %d columns, not 2", s.title, n)
		}
	}
	delete(reports, "mux")
	if _, err := render(reports, &front{}); err == nil || !strings.Contains(err.Error(), "mux") {
		t.Errorf("without a report on mux: %v", err)
	}
}
