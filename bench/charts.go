package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"waterproxy/bench/internal/chart"
	"waterproxy/bench/internal/report"
	"waterproxy/internal/measure"
)

// chartsCommand draws what earlier runs have measured.
const chartsCommand = "charts"

// runCharts draws the reports in files that -json has written, and prints what a page
// about them has besides the drawings.
func runCharts(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench charts", flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("o", ".", "directory of the drawings")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: bench charts [-o DIR] FILE.json ...\n\nDraws FILE-ratios.svg, and FILE-growth.svg if connections were counted at several numbers.")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return flagError(err)
	}
	if flags.NArg() == 0 {
		return usageError{errors.New("no files with results")}
	}
	for _, file := range flags.Args() {
		if err := drawFile(file, *dir, stdout); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

func drawFile(file, dir string, stdout io.Writer) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	reports, err := report.ReadJSON(f)
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	for i, r := range reports {
		of := name
		if len(reports) > 1 {
			of = fmt.Sprintf("%s-%d", name, i+1)
		}
		if err := draw(&r, of, dir, stdout); err != nil {
			return err
		}
	}
	return nil
}

// draw draws one report, and prints its table.
func draw(r *report.Saved, name, dir string, stdout io.Writer) error {
	fmt.Fprintf(stdout, "## %s\n\n", r.Title)
	var others []string
	for _, c := range r.Contestants {
		if c.Name != r.Baseline {
			others = append(others, c.Name)
		}
	}
	if rows := ratioRows(r, others); len(rows) > 0 {
		file := name + "-ratios.svg"
		err := create(filepath.Join(dir, file), func(w io.Writer) error {
			return chart.Bars(w, "Ratio to "+r.Baseline, r.Baseline, others, rows)
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "![ratios to %s](%s)\n\n", r.Baseline, file)
	}
	all := append([]string{r.Baseline}, others...)
	if panels := growthPanels(r, all); len(panels) > 0 {
		file := name + "-growth.svg"
		err := create(filepath.Join(dir, file), func(w io.Writer) error {
			return chart.Growth(w, "With the number of connections", all, panels)
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "![with the number of connections](%s)\n\n", file)
	}
	printTable(r, others, stdout)
	return nil
}

func create(file string, write func(io.Writer) error) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// asked are the metrics that answer a reader's questions; the JSON has all.
var asked = []string{
	"start_warm_client", "start_warm_server", "first_conn_warm", "setup_p50", "setup_rate", "ping_p50", "ping_p99",
	"up1", "up1_client_cpu", "up1_server_cpu", "down1", "down1_client_cpu", "down1_server_cpu", "upN", "downN",
}

// shown are those of them that a report has, and the memory of all idle connections.
func shown(r *report.Saved) (metrics []report.SavedMetric) {
	of := asked
	for _, n := range r.Options.Idle {
		of = append(of[:len(of):len(of)], fmt.Sprintf("idle%d_client_total", n), fmt.Sprintf("idle%d_server_total", n))
	}
	for _, m := range r.Metrics {
		if slices.Contains(of, m.Key) {
			metrics = append(metrics, m)
		}
	}
	return metrics
}

// ratioRows are the metrics in which there is something to compare.
func ratioRows(r *report.Saved, others []string) (rows []chart.Row) {
	for _, m := range shown(r) {
		row := chart.Row{Label: m.Label, LessIsBetter: m.Better == measure.Lower}
		some := false
		for _, name := range others {
			ratio := math.NaN()
			if s := m.Ratio[name]; s.N > 0 {
				ratio, some = s.Median, true
			}
			row.Ratios = append(row.Ratios, ratio)
		}
		if some {
			rows = append(rows, row)
		}
	}
	return rows
}

// growthPanels are the measures of idle connections, if there are several numbers of them.
func growthPanels(r *report.Saved, names []string) (panels []chart.Panel) {
	if len(r.Options.Idle) < 2 {
		return nil
	}
	for _, p := range []struct{ key, title string }{
		{"client_total", "memory of the client, MB"},
		{"server_total", "memory of the server, MB"},
		{"client_cpu", "processor of the client while idle, %"},
		{"rate", "opened per second"},
	} {
		panel := chart.Panel{Title: p.title}
		some := false
		for _, name := range names {
			var points []chart.Point
			for _, n := range r.Options.Idle {
				if s, ok := summary(r, fmt.Sprintf("idle%d_%s", n, p.key), name); ok {
					points = append(points, chart.Point{X: float64(n), Y: s.Median})
				}
			}
			some = some || len(points) > 0
			panel.Series = append(panel.Series, points)
		}
		if some {
			panels = append(panels, panel)
		}
	}
	return panels
}

func summary(r *report.Saved, key, contestant string) (measure.Summary, bool) {
	i := slices.IndexFunc(r.Metrics, func(m report.SavedMetric) bool { return m.Key == key })
	if i < 0 {
		return measure.Summary{}, false
	}
	s, ok := r.Metrics[i].Summary[contestant]
	return s, ok
}

// printTable prints the baseline's medians, and the ratios of the others to them.
func printTable(r *report.Saved, others []string, stdout io.Writer) {
	fmt.Fprintf(stdout, "| median, and ratio (smallest..largest of the rounds) | %s | %s |\n", r.Baseline, strings.Join(others, " | "))
	fmt.Fprintf(stdout, "|---|---%s|\n", strings.Repeat("|---", len(others)))
	for _, m := range shown(r) {
		base, ok := m.Summary[r.Baseline]
		if !ok {
			continue
		}
		fmt.Fprintf(stdout, "| %s, %s (%s is better) | %s", m.Label, m.Unit, m.Better, report.Quantity(m.Metric, base.Median))
		for _, name := range others {
			cell := "–"
			if s := m.Ratio[name]; s.N > 0 {
				cell = fmt.Sprintf("**%s** (%s..%s)", report.Number(s.Median), report.Number(s.Min), report.Number(s.Max))
			}
			fmt.Fprintf(stdout, " | %s", cell)
		}
		fmt.Fprintln(stdout, " |")
	}
	fmt.Fprintf(stdout, "\n%s, %d cores, %s; commit %s; %s", r.Machine.CPU, r.Machine.Cores, r.Machine.Go, r.Machine.Commit, r.Machine.Date.Format("2006-01-02"))
	for _, note := range r.Notes {
		fmt.Fprintf(stdout, "; %s", note)
	}
	fmt.Fprintf(stdout, ". Failures: %d.\n", len(r.Failures))
	for _, f := range r.Failures {
		fmt.Fprintf(stdout, "- %s, %s %d: %s\n", f.Contestant, f.Test, f.Round, f.Error)
	}
	fmt.Fprintln(stdout)
}
