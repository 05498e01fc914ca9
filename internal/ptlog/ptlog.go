// Package ptlog is what the program logs, and what the managed proxy sends to tor
// beyond what goptlib sends: log lines, and the error and status lines for which goptlib
// has no function. Like goptlib, it writes these to standard output; nothing else in the
// managed proxy may. Whatever is written here goes through a Queue, so that an output
// which is not read, or cannot be written, holds up no connection.
package ptlog

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"

	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/goptlib"
	"gitlab.torproject.org/tpo/anti-censorship/pluggable-transports/ptutil/safelog"
)

// New returns a logger whose records tor gets as LOG lines (pt-spec 3.3.4),
// from level on. Addresses are replaced, whatever is logged.
func New(level slog.Leveler) *slog.Logger { return slog.New(torHandler(level)) }

func torHandler(level slog.Leveler) slog.Handler {
	return slog.NewTextHandler(lineWriter{}, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{} // tor adds its own
			}
			return scrub(a)
		},
	})
}

// scrub replaces the addresses in an attribute. Once the handler has quoted it,
// an address after a line break would follow the letter n and not be found.
func scrub(a slog.Attr) slog.Attr {
	if p, ok := a.Value.Any().(private); ok {
		a.Value = slog.StringValue(p.scrubbed) // a module's words are still in it
	}
	switch a.Value.Kind() {
	case slog.KindString, slog.KindAny:
		a.Value = slog.StringValue(string(safelog.Scrub([]byte(a.Value.String()))))
	}
	return a
}

// lineWriter sends each line that a slog.TextHandler writes to tor, at the
// severity the line starts with.
type lineWriter struct{}

func (lineWriter) Write(p []byte) (int, error) {
	line := strings.TrimSuffix(string(p), "\n")
	level, rest, _ := strings.Cut(line, " ")
	severity := pt.LogSeverityInfo
	switch level {
	case "level=ERROR":
		severity = pt.LogSeverityError
	case "level=WARN":
		severity = pt.LogSeverityWarning
	case "level=DEBUG":
		severity = pt.LogSeverityDebug
	}
	pt.Log(severity, strings.TrimPrefix(rest, "msg="))
	return len(p), nil
}

// EnvError prints an ENV-ERROR line (pt-spec 3.3.1), after which tor gives the
// proxy up instead of starting it again and again.
func EnvError(format string, args ...any) {
	msg := Printable(fmt.Sprintf(format, args...))
	// If tor does not listen there is no one left to report to.
	_, _ = io.WriteString(pt.Stdout, "ENV-ERROR "+msg+"\n")
}

// ReportConnect tells tor's controllers how the set-up of a transport's connection
// went, in a STATUS line (pt-spec 3.3.5). failure is empty if it is up. Addresses in it
// are replaced.
func ReportConnect(transport, failure string) {
	line := "STATUS TRANSPORT=" + transport + " CONNECT=Success"
	if failure != "" {
		why := Printable(string(safelog.Scrub([]byte(failure))))
		why = strings.NewReplacer(`\`, `\134`, `"`, `\042`).Replace(why)
		line = fmt.Sprintf(`STATUS TRANSPORT=%s CONNECT=Failed ERRSTR="%s"`, transport, why)
	}
	// If tor does not listen there is no one left to report to.
	_, _ = io.WriteString(pt.Stdout, line+"\n")
}

// Printable replaces what must not be in a line to tor: line breaks, which would
// start a line of their own, other control characters and all that is not ASCII.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// Shown returns a text as it can be shown in a terminal: characters that would do something
// there, ends of lines and tabs apart, are question marks.
func Shown(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\n' || r == '\t' {
			return r
		}
		return '?'
	}, s)
}
