package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/peterbourgon/ff/v3/ffcli"
	"golang.org/x/term"

	"waterproxy/internal/meter"
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
		Exec: func(ctx context.Context, args []string) error {
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
				_, err = io.WriteString(os.Stdout, table(rows, nil, 0))
				return err
			}
			return watchStatus(ctx, os.Stdout, args[0], *interval)
		},
	}
}

// watchStatus draws the table again and again, until ctx or the process that it
// shows ends.
func watchStatus(ctx context.Context, w io.Writer, address string, interval time.Duration) error {
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
		text := table(rows, before, now.Sub(at))
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

// table shows rows, with speeds if there are earlier ones from so long ago.
func table(rows, before []meter.Row, since time.Duration) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(cells ...any) {
		for _, c := range cells {
			fmt.Fprintf(t, "%v\t", c)
		}
		fmt.Fprintln(t)
	}
	line("TRANSPORT", "OPEN", "ENDED", "FAILED", "REFUSED", "SET-UP", "SENT", "RECEIVED", "INSTANCES", "MEMORY", "TRAPS", "LIMITS")
	for _, r := range rows {
		sent, received := bytesText(r.ToNetwork), bytesText(r.FromNetwork)
		for _, old := range before {
			if old.Transport == r.Transport && since > 0 {
				sent += speed(r.ToNetwork, old.ToNetwork, since)
				received += speed(r.FromNetwork, old.FromNetwork, since)
			}
		}
		setUp := "-"
		if r.SetUp > 0 {
			setUp = fmt.Sprintf("%.1f ms", float64(r.SetUp.Microseconds())/1000)
		}
		line(r.Transport, r.Open, r.Finished, r.Failed, r.Refused, setUp, sent, received, r.Instances, bytesText(r.Memory), r.Traps, r.Limits)
	}
	_ = t.Flush() // into memory
	return b.String()
}

// speed returns bytes in a time, in brackets.
func speed(now, before uint64, since time.Duration) string {
	if now < before { // another process
		return ""
	}
	return " (" + bytesText(uint64(float64(now-before)/since.Seconds())) + "/s)"
}

// bytesText writes a number of bytes in the unit that fits.
func bytesText(n uint64) string {
	value, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for ; value >= 1024 && len(units) > 1; units = units[1:] {
		value /= 1024
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[0])
}
