package demo

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// result is what the table at the end shows.
type result struct {
	transport string
	module    string // SHA-256, empty if not known
	size      int64
	sum       string
	carried   carried
	took      time.Duration
}

// write writes the table.
func (r result) write(out io.Writer) error {
	module := r.module
	if module == "" {
		module = "not known"
	}
	rows := [][2]string{
		{"transport", r.transport},
		{"module's SHA-256", module},
		{"fetched", fmt.Sprintf("%d bytes, SHA-256 %s as served", r.size, r.sum)},
		{"module to network", fmt.Sprintf("%d bytes", r.carried.toNetwork)},
		{"network to module", fmt.Sprintf("%d bytes", r.carried.fromNetwork)},
		{"time of the fetch", fmt.Sprintf("%.2f s", r.took.Seconds())},
		{"speed of the fetch", fmt.Sprintf("%.1f MB/s", float64(r.size)/1e6/r.took.Seconds())},
	}
	return writeTable(out, rows)
}

func writeTable(out io.Writer, rows [][2]string) error {
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, row := range rows {
		// The writer keeps its first error until Flush.
		fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
	}
	return table.Flush()
}
