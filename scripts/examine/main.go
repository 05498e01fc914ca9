// Command examine is make examine: it examines the built-in transports, and programs of
// others, with waterproxy examine, one after the other, and writes what it finds to
// docs/probing.md, around the words of probing.md.tmpl.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"waterproxy/internal/examine"
)

//go:embed probing.md.tmpl
var words string

func main() {
	out := flag.String("out", "docs/probing.md", "write to `FILE`")
	keep := flag.String("reports", "", "keep the reports in `DIR`, and use those that are there")
	only := flag.String("only", "", "examine those with these `NAMES`, with commas between; the others' reports have to be there")
	n := flag.Int("n", examine.DefaultConnections, "record `N` connections of each")
	probes := flag.Int("probes", examine.DefaultProbes, "`N` probers of each kind")
	wait := flag.Duration("probe-time", examine.DefaultProbeTime, "how long probers wait")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	more := []string{"-n", fmt.Sprint(*n), "-probes", fmt.Sprint(*probes), "-probe-time", wait.String()}
	if err := run(ctx, *out, *keep, *only, more); err != nil {
		fmt.Fprintln(os.Stderr, "examine:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, keep, only string, more []string) (err error) {
	dir, err := os.MkdirTemp("", "examine-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if keep == "" {
		keep = dir
	}
	front, err := startFront(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, front.close()) }()
	reports := map[string]*examine.Report{}
	for _, s := range subjects(front) {
		file := filepath.Join(keep, s.name+".json")
		chosen := only != "" && slices.Contains(strings.Split(only, ","), s.name)
		_, missing := os.Stat(file)
		if chosen || only == "" && missing != nil {
			fmt.Fprintln(os.Stderr, "==", s.name)
			if err := examineOne(ctx, file, append(slices.Clone(more), s.args...)); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		if reports[s.name], err = read(file); err != nil {
			return err
		}
	}
	text, err := render(reports, front)
	if err != nil {
		return err
	}
	return os.WriteFile(out, []byte(text), 0o644)
}

// examineOne writes the report on one subject to a file.
func examineOne(ctx context.Context, file string, args []string) error {
	f, err := os.Create(file + ".new")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "./waterproxy", append([]string{"examine", "-json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stdout, cmd.Stderr = f, os.Stderr
	if err := errors.Join(cmd.Run(), f.Close()); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func read(file string) (*examine.Report, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(examine.Report)
	return r, json.Unmarshal(text, r)
}

// render fills the template, which names subjects in tables.
func render(reports map[string]*examine.Report, front *front) (string, error) {
	titles := map[string]string{}
	for _, s := range subjects(front) {
		titles[s.name] = s.title
	}
	columns := func(names []string) (all []column, err error) {
		for _, name := range names {
			if reports[name] == nil {
				return nil, fmt.Errorf("the template names %q, which is not examined", name)
			}
			all = append(all, column{titles[name], reports[name]})
		}
		return all, nil
	}
	t, err := template.New("probing.md").Funcs(template.FuncMap{
		"seen": func(names ...string) (string, error) {
			all, err := columns(names)
			return seenTable(all), err
		},
		"probed": func(names ...string) (string, error) {
			all, err := columns(names)
			return probeTable(all), err
		},
		"times": func(name string) int { return reports[name].Probes.Times },
		"limit": func(name string) float64 { return reports[name].Probes.Limit },
		"n":     func(name string) int { return reports[name].Connections },
	}).Parse(words)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, nil)
	return b.String(), err
}
