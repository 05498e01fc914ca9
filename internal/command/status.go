package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"
	"golang.org/x/term"

	"waterproxy/internal/meter"
	"waterproxy/internal/ptlog"
)

func statusCommand() *ffcli.Command {
	fs := newFlagSet("waterproxy status")
	once := fs.Bool("once", false, "print the table once, which is what happens anyway if the output is no terminal")
	interval := fs.Duration("interval", time.Second, "time from one look to the next")
	return &ffcli.Command{
		Name:       "status",
		ShortUsage: "waterproxy status [flags] ADDRESS",
		ShortHelp:  "show what a running waterproxy carries",
		LongHelp:   "ADDRESS is that of its flag -metrics: unix:PATH or HOST:PORT.",
		FlagSet:    fs,
		Exec: interruptible(func(ctx context.Context, args []string) error {
			if *interval <= 0 {
				fmt.Fprintf(os.Stderr, "waterproxy status: -interval: %v is no time from one look to the next; it is more than 0, as 1s\n", *interval)
				return errUsage
			}
			if len(args) != 1 {
				fmt.Fprintln(os.Stderr, "waterproxy status takes the address at which the figures are served")
				return errUsage
			}
			if *once || !term.IsTerminal(int(os.Stdout.Fd())) {
				rows, err := meter.Read(ctx, args[0])
				if err != nil {
					return err
				}
				_, err = io.WriteString(os.Stdout, table(rows, nil, 0, maxRows))
				return err
			}
			return watchStatus(ctx, os.Stdout, args[0], *interval, screenRows())
		}),
	}
}

// maxRows is how many transports a table shows at most.
const maxRows = 500

// maxName is how many characters of a transport's name a table shows at most.
const maxName = 64

// screenRows returns how many transports a table on the terminal can show: it is drawn
// over itself, which it cannot be if it scrolls.
func screenRows() int {
	_, height, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil {
		return maxRows
	}
	return max(1, min(height-3, maxRows)) // besides the head, what is left out, and the cursor
}

// watchStatus draws the table, of at most limit transports, again and again, until ctx
// or the process that it shows ends.
func watchStatus(ctx context.Context, w io.Writer, address string, interval time.Duration, limit int) error {
	var before []meter.Row
	var at time.Time
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	up := "" // what brings the cursor back to the table's beginning
	for {
		rows, err := meter.Read(ctx, address)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		now := time.Now()
		text := table(rows, before, now.Sub(at), limit)
		if _, err := io.WriteString(w, up+"\x1b[J"+text); err != nil {
			return err
		}
		up = fmt.Sprintf("\x1b[%dA", strings.Count(text, "\n"))
		before, at = rows, now
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// table shows at most limit rows, with speeds if there are earlier ones from so long
// ago.
func table(rows, before []meter.Row, since time.Duration, limit int) string {
	earlier := make(map[string]meter.Row, len(before))
	for _, r := range before {
		earlier[r.Transport] = r
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")+"\t") }
	line("TRANSPORT", "OPEN", "ENDED", "FAILED", "REFUSED", "SET-UP", "SENT", "RECEIVED", "INSTANCES", "MEMORY", "TRAPS", "LIMITS")
	for _, r := range rows[:min(limit, len(rows))] {
		sent, received := bytesText(r.ToNetwork), bytesText(r.FromNetwork)
		if old, ok := earlier[r.Transport]; ok && since > 0 {
			sent += speed(r.ToNetwork, old.ToNetwork, since)
			received += speed(r.FromNetwork, old.FromNetwork, since)
		}
		setUp := unknownText
		if r.SetUp > 0 {
			setUp = fmt.Sprintf("%.1f ms", float64(r.SetUp.Microseconds())/1000)
		}
		line(nameText(r.Transport), numberText(r.Open), numberText(r.Finished), numberText(r.Failed), numberText(r.Refused), setUp,
			sent, received, numberText(r.Instances), bytesText(r.Memory), numberText(r.Traps), numberText(r.Limits))
	}
	_ = t.Flush() // into memory
	if more := len(rows) - limit; more > 0 {
		fmt.Fprintf(&b, "and %d more\n", more)
	}
	return b.String()
}

// unknownText stands for a figure that was not served or makes no sense.
const unknownText = "-"

// nameText returns a name as a terminal may show it: another process has chosen it.
func nameText(name string) string {
	cut := len(name) > maxName
	if cut {
		name = name[:maxName]
	}
	if name != ptlog.Printable(name) || name == "" || strings.ContainsAny(name, " \"") {
		name = strconv.QuoteToASCII(name)
	}
	if cut {
		name += "..."
	}
	return name
}

func numberText(f meter.Figure) string {
	n, ok := f.Value()
	if !ok {
		return unknownText
	}
	return strconv.FormatUint(n, 10)
}

// speed returns bytes in a time, in brackets.
func speed(now, before meter.Figure, since time.Duration) string {
	n, ok := now.Value()
	old, oldOK := before.Value()
	if !ok || !oldOK || n < old { // another process
		return ""
	}
	return " (" + bytesText(meter.Figure(float64(n-old)/since.Seconds())) + "/s)"
}

// bytesText writes a number of bytes in the unit that fits.
func bytesText(f meter.Figure) string {
	n, ok := f.Value()
	if !ok {
		return unknownText
	}
	value, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for ; value >= 1024 && len(units) > 1; units = units[1:] {
		value /= 1024
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[0])
}
