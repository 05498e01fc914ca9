// Command testall is make test: it makes each of the targets that it is given, all of
// them whatever becomes of the others, and lists at the end what has failed.
//
// Each argument is a stage, which begins when the one before has ended. A stage is one target,
// or chains of targets that are made beside each other: a,b+c makes a, then b, and c meanwhile.
//
// What the targets write is shown as it comes. Of the tests only those that fail, and
// those that take long, since targets run go test with -json (make's TESTFLAGS).
package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: testall TARGET[,TARGET...][+TARGET...]...")
		os.Exit(2)
	}
	out := &together{w: os.Stdout}
	var parts []*part
	for _, stage := range os.Args[1:] {
		parts = append(parts, runStage(stage, out, func(target string) *exec.Cmd {
			return exec.Command(cmp.Or(os.Getenv("MAKE"), "make"), "--no-print-directory", target, "TESTFLAGS=-json")
		})...)
	}
	if !summarize(os.Stdout, parts) {
		os.Exit(1)
	}
}

// together is what several parts write to, each write whole.
type together struct {
	mu sync.Mutex
	w  io.Writer
}

func (t *together) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.w.Write(b)
}

// runStage makes the chains of a stage beside each other, and returns the parts in the order
// in which they are written. More than one of them writes to out at a time.
func runStage(stage string, out io.Writer, command func(target string) *exec.Cmd) (parts []*part) {
	var chains sync.WaitGroup
	for chain := range strings.SplitSeq(stage, "+") {
		var own []*part
		for target := range strings.SplitSeq(chain, ",") {
			own = append(own, newPart(target, out))
		}
		parts = append(parts, own...)
		chains.Go(func() {
			for _, p := range own {
				p.print(fmt.Sprintf("== make %s\n", p.name))
				began := time.Now()
				p.err = p.run(command(p.name))
				p.took = time.Since(began)
			}
		})
	}
	chains.Wait()
	return parts
}

// pipeTime is how long to read on after the end of a target, for a process that it has
// left behind and that holds its output open.
const pipeTime = time.Minute

// run runs a command and takes in what it writes.
func (p *part) run(cmd *exec.Cmd) error {
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = in, in, pipeTime
	read := make(chan error, 1)
	go func() { read <- p.read(out) }()
	err := cmd.Run()
	_ = in.Close() // it never fails
	return errors.Join(err, <-read)
}

// read takes in lines until the end.
func (p *part) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			p.line(strings.TrimSuffix(line, "\n"))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// summarize writes what has failed, and reports whether nothing has.
func summarize(w io.Writer, parts []*part) (ok bool) {
	ok = true
	fmt.Fprintln(w, "\n== Summary")
	for _, p := range parts {
		verdict := "passed"
		if p.failed() {
			verdict, ok = "FAILED", false
		}
		fmt.Fprintf(w, "%s  %-12s %6.1f s\n", verdict, p.name, p.took.Seconds())
		for _, line := range p.report() {
			fmt.Fprintln(w, "        "+line)
		}
	}
	return ok
}
