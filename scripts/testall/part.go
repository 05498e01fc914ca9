package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// event is a line of go test -json (go doc test2json, go help buildjson).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of what is built, instead of Package
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// test names a test, or a package if its second part is empty.
type test struct{ pkg, name string }

// part is one target and what has become of it.
type part struct {
	name string
	show io.Writer
	err  error // of the command
	took time.Duration

	output  map[test][]string // of what has not ended yet
	order   []test            // the keys of output
	failing []string          // what has failed, in words
	skipped []string
	races   []test   // what has passed though a race was reported in what it wrote
	last    []string // the last lines that are not of a test
}

func newPart(name string, show io.Writer) *part {
	return &part{name: name, show: show, output: map[test][]string{}}
}

const (
	// shownLines is how many lines of a command that has failed the summary repeats.
	shownLines = 10
	// longTest is what a test takes, in seconds, to be shown though it passes.
	longTest = 10
)

// line takes in a line of the command's output, and shows it if it is for people.
func (p *part) line(text string) {
	var e event
	if !strings.HasPrefix(text, "{") || json.Unmarshal([]byte(text), &e) != nil || e.Action == "" {
		p.print(text + "\n")
		p.remember(text)
		return
	}
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		p.print(e.Output)
	case "run":
		p.open(t)
	case "output":
		if t.name == "" {
			p.print(e.Output)
		}
		p.open(t)
		p.output[t] = append(p.output[t], e.Output)
	case "pass", "skip":
		p.pass(t, e)
	case "fail":
		p.fail(t, e)
	}
}

func (p *part) print(text string) {
	if text == "PASS\n" { // of a package, which has another line
		return
	}
	_, _ = io.WriteString(p.show, text) // there is no other place to say that it fails
}

// remember keeps the last lines.
func (p *part) remember(text string) {
	p.last = append(p.last, text)
	p.last = p.last[max(0, len(p.last)-shownLines):]
}

func (p *part) open(t test) {
	if _, ok := p.output[t]; !ok {
		p.output[t] = nil
		p.order = append(p.order, t)
	}
}

// end forgets a test and returns what it has written.
func (p *part) end(t test) []string {
	output := p.output[t]
	delete(p.output, t)
	p.order = slices.DeleteFunc(p.order, func(other test) bool { return other == t })
	return output
}

// pass forgets what a test that has passed has written, unless a data race is in it: the
// race detector reports one wherever it runs into it, and what fails for it may have no
// name (a goroutine that has outlived its test, say).
func (p *part) pass(t test, e event) {
	output := p.end(t)
	if t.name == "" {
		return
	}
	if slices.ContainsFunc(output, isRace) {
		p.print(strings.Join(output, ""))
		p.races = append(p.races, t)
	}
	if e.Action == "skip" {
		p.skipped = append(p.skipped, t.pkg+": "+t.name)
	} else if e.Elapsed >= longTest && !strings.Contains(t.name, "/") {
		p.print(fmt.Sprintf("--- PASS: %s (%.1fs)\n", t.name, e.Elapsed))
	}
}

// fail shows what a test has written, and takes note of it. A package that fails takes
// with it what has not ended.
func (p *part) fail(t test, e event) {
	output := p.end(t)
	if t.name != "" {
		p.print(strings.Join(output, ""))
		p.failing = append(p.failing, t.pkg+": "+t.name)
		return
	}
	named := slices.ContainsFunc(p.failing, func(line string) bool { return strings.HasPrefix(line, t.pkg+": ") })
	for _, other := range slices.Clone(p.order) {
		if other.pkg == t.pkg {
			named = false // or it would have ended
			unended := p.end(other)
			p.print(strings.Join(unended, ""))
			p.failing = append(p.failing, other.pkg+": "+other.name+" (it did not end)")
			output = append(output, unended...)
		}
	}
	switch {
	case e.FailedBuild != "":
		p.failing = append(p.failing, t.pkg+": it does not build")
	case !named:
		p.failing = append(p.failing, t.pkg+": "+cmp.Or(p.raced(t.pkg), reason(output)))
	}
}

func isRace(line string) bool { return strings.Contains(line, "WARNING: DATA RACE") }

// raced says of which package's test there was a race report, if of any.
func (p *part) raced(pkg string) string {
	for _, t := range p.races {
		if t.pkg == pkg {
			return "a data race was reported during " + t.name
		}
	}
	return ""
}

// reason returns the line of the output of a package that explains best why it failed,
// though none of its tests did.
func reason(output []string) string {
	why := "it failed, and none of its tests did"
	for _, line := range output {
		line = strings.TrimSpace(line)
		for _, prefix := range []string{"panic: ", "fatal error: ", "signal: "} {
			if strings.HasPrefix(line, prefix) {
				return line
			}
		}
		if line != "PASS" && !strings.HasPrefix(line, "FAIL") && line != "" {
			why = line
		}
	}
	return why
}

func (p *part) failed() bool { return p.err != nil || len(p.failing) > 0 }

// report returns lines on what has failed, and what was left out.
func (p *part) report() (lines []string) {
	lines = slices.Clone(p.failing)
	if p.err != nil && len(lines) == 0 {
		lines = append(append(lines, p.last...), p.err.Error())
	}
	for _, t := range p.order {
		lines = append(lines, strings.TrimSuffix(t.pkg+": "+t.name, ": ")+": it has no result")
	}
	for _, t := range p.skipped {
		lines = append(lines, t+" was skipped")
	}
	return lines
}
