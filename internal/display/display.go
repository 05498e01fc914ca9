// Package display shows how far long work is: as a bar on a terminal, else in lines.
package display

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	// redrawInterval is how often a bar is drawn anew even if it stands
	// still, so that its clock runs.
	redrawInterval = 200 * time.Millisecond
	// lineStep is after how many percent a line is written where there are
	// no bars.
	lineStep = 25
	barWidth = 30
)

// Display shows how far each stage is, one after the other. It is safe for concurrent use.
type Display struct {
	out      io.Writer
	titles   map[string]string
	terminal bool

	mu    sync.Mutex
	now   string // the stage that is shown
	begin time.Time
	shown int // the percentage in the last line
	bar   *progressbar.ProgressBar
	still chan struct{} // closed when the bar needs no redrawing any more
	done  sync.WaitGroup
}

// New returns a display that writes to out. titles say what happens in each stage, by its name.
func New(out io.Writer, titles map[string]string) *Display {
	file, ok := out.(*os.File)
	return &Display{out: out, titles: titles, terminal: ok && term.IsTerminal(int(file.Fd()))}
}

// Stage returns a function that shows the progress of one stage.
func (d *Display) Stage(name string) func(percent int) {
	return func(percent int) { d.Progress(name, percent) }
}

// Progress shows how far a stage is, in percent. With 100 it has ended, as it has when another
// one begins.
func (d *Display) Progress(stage string, percent int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now != stage {
		d.end()
		d.start(stage)
	}
	if d.terminal {
		// A terminal that is gone must not end what runs.
		_ = d.bar.Set(percent)
	} else if percent < 100 && percent >= d.shown+lineStep {
		d.shown = percent
		d.line("%s: %d%%", d.titles[stage], percent)
	}
	if percent >= 100 {
		if !d.terminal {
			d.line("%s: done after %.1f s", d.titles[stage], time.Since(d.begin).Seconds())
		}
		d.end()
	}
}

// line writes one line. What cannot be written to is found out by the table,
// whose errors count.
func (d *Display) line(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *Display) start(stage string) {
	d.now, d.begin, d.shown = stage, time.Now(), 0
	if !d.terminal {
		d.line("%s ...", d.titles[stage])
		return
	}
	d.bar = progressbar.NewOptions(100,
		progressbar.OptionSetWriter(d.out),
		progressbar.OptionSetDescription(fmt.Sprintf("%-23s", d.titles[stage])),
		progressbar.OptionSetWidth(barWidth),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionShowElapsedTimeOnFinish(),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionUseANSICodes(true),
	)
	d.still = make(chan struct{})
	bar, still := d.bar, d.still
	d.done.Go(func() { redraw(bar, still) })
}

func redraw(bar *progressbar.ProgressBar, still <-chan struct{}) {
	tick := time.NewTicker(redrawInterval)
	defer tick.Stop()
	for {
		select {
		case <-still:
			return
		case <-tick.C:
			_ = bar.RenderBlank()
		}
	}
}

// end ends the stage that is shown, if any, and its line on the terminal.
func (d *Display) end() {
	if d.now == "" {
		return
	}
	d.now = ""
	if d.terminal {
		close(d.still)
		d.done.Wait()
		d.line("")
	}
}

// Close ends a stage that was not finished.
func (d *Display) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
}
