package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waterproxy/bench/internal/report"
	"waterproxy/internal/measure"
)

// TestCharts draws a report with two contestants and two numbers of idle connections.
func TestCharts(t *testing.T) {
	r := &report.Report{
		Title: "a title", Baseline: "base",
		Contestants: []report.Contestant{{Name: "ours"}, {Name: "base"}},
		Options:     measure.Options{Idle: []int{10, 100}},
	}
	metrics := append(measure.IdleMetrics(10, "client", "server"), measure.IdleMetrics(100, "client", "server")...)
	r.AddTest("idle", 1, metrics)
	for name, memory := range map[string]float64{"ours": 5, "base": 10} {
		r.AddSample(name, 1, measure.Sample{"idle10_client_total": memory, "idle100_client_total": 2 * memory, "idle100_rate": 3})
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "run.json")
	if err := writeJSONFile(file, []*report.Report{r}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := runCharts([]string{"-o", dir, file}, &out, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## a title", "run-ratios.svg", "run-growth.svg", "| 100 idle connections: RSS in all, client, MB (lower is better) | 20 | **0.50** (0.50..0.50) |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, &out)
		}
	}
	for name, want := range map[string]string{"run-ratios.svg": ">0.5<", "run-growth.svg": "memory of the client"} {
		if svg, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(svg), want) {
			t.Errorf("%s: %v, want %q in it", name, err, want)
		}
	}
	if err := runCharts([]string{filepath.Join(dir, "run-ratios.svg")}, &out, &out); err == nil {
		t.Error("a file that is no report is drawn")
	}
}
