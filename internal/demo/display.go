package demo

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"waterproxy/internal/tornet"
)

// The stages that tornet does not know, and the client's, which is in both.
const (
	stageServer   = "server"
	stageClient   = tornet.StageClient
	stageDownload = "download"

	// These are of a demonstration with a repository.
	stageRepository = "repository"
	stagePublish    = "publish"
	stageReplace    = "replace"
	stageRest       = "rest"
	stageAnew       = "anew"
	stageSecond     = "second"
)

// titles say what happens in each stage.
var titles = map[string]string{
	tornet.StageAuthority: "directory authority",
	tornet.StageConsensus: "exit relay, consensus",
	tornet.StageBridge:    "bridge, module inside",
	stageClient:           "client, module inside",
	stageServer:           "server, module inside",
	stageDownload:         "fetching the file",
	stageRepository:       "repository, 2 of 3 keys",
	stagePublish:          "publishing version " + secondVersion,
	stageReplace:          "both ends take it",
	stageRest:             "fetching the rest",
	stageAnew:             "connecting anew",
	stageSecond:           "fetching it again",
}

const (
	// redrawInterval is how often a bar is drawn anew even if it stands
	// still, so that its clock runs.
	redrawInterval = 200 * time.Millisecond
	// lineStep is after how many percent a line is written where there are
	// no bars.
	lineStep = 25
	barWidth = 30
)

// display shows how far each stage is: as a bar on a terminal, else in lines.
type display struct {
	out      io.Writer
	terminal bool

	mu    sync.Mutex
	now   string // the stage that is shown
	begin time.Time
	shown int // the percentage in the last line
	bar   *progressbar.ProgressBar
	still chan struct{} // closed when the bar needs no redrawing any more
	done  sync.WaitGroup
}

func newDisplay(out io.Writer) *display {
	file, ok := out.(*os.File)
	return &display{out: out, terminal: ok && term.IsTerminal(int(file.Fd()))}
}

// stage returns a function that shows the progress of one stage.
func (d *display) stage(name string) func(percent int) {
	return func(percent int) { d.progress(name, percent) }
}

// progress shows how far a stage is; it is a tornet.Progress.
func (d *display) progress(stage string, percent int) {
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
		d.line("%s: %d%%", titles[stage], percent)
	}
	if percent >= 100 {
		if !d.terminal {
			d.line("%s: done after %.1f s", titles[stage], time.Since(d.begin).Seconds())
		}
		d.end()
	}
}

// line writes one line. What cannot be written to is found out by the table,
// whose errors count.
func (d *display) line(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *display) start(stage string) {
	d.now, d.begin, d.shown = stage, time.Now(), 0
	if !d.terminal {
		d.line("%s ...", titles[stage])
		return
	}
	d.bar = progressbar.NewOptions(100,
		progressbar.OptionSetWriter(d.out),
		progressbar.OptionSetDescription(fmt.Sprintf("%-23s", titles[stage])),
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
func (d *display) end() {
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

// close ends a stage that was not finished.
func (d *display) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end()
}
