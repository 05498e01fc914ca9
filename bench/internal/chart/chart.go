// Package chart draws the figures of a benchmark as SVG, for a light and for a dark
// page: the reader's browser chooses.
package chart

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Sizes, in pixels.
const (
	width      = 840
	margin     = 16
	headHeight = 64
	barHeight  = 13
	rowGap     = 7
)

const style = `
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.quiet { fill: #656d76 }
.line { stroke: #d0d7de; stroke-width: 1 }
.one { stroke: #1f2328; stroke-width: 1.5 }
.c0 { fill: #0969da; stroke: #0969da } .c1 { fill: #bc4c00; stroke: #bc4c00 }
.c2 { fill: #1a7f37; stroke: #1a7f37 } .c3 { fill: #8250df; stroke: #8250df }
.curve { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #8d96a0 } .line { stroke: #30363d } .one { stroke: #e6edf3 }
.c0 { fill: #4493f8; stroke: #4493f8 } .c1 { fill: #f0883e; stroke: #f0883e }
.c2 { fill: #3fb950; stroke: #3fb950 } .c3 { fill: #ab7df8; stroke: #ab7df8 }
.curve { fill: none }
}
`

// colors is how many series can be told apart.
const colors = 4

func color(i int) string { return "c" + strconv.Itoa(i%colors) }

// drawing is an SVG file in the making.
type drawing struct {
	b      strings.Builder
	height float64
}

func (d *drawing) text(x, y float64, class, anchor, text string) {
	fmt.Fprintf(&d.b, `<text x="%s" y="%s" class="%s" text-anchor="%s">%s</text>`+"\n", px(x), px(y), class, anchor, html.EscapeString(text))
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&d.b, `<line x1="%s" y1="%s" x2="%s" y2="%s" class="%s"/>`+"\n", px(x1), px(y1), px(x2), px(y2), class)
}

func (d *drawing) rect(x, y, w, h float64, class, title string) {
	fmt.Fprintf(&d.b, `<rect x="%s" y="%s" width="%s" height="%s" class="%s"><title>%s</title></rect>`+"\n",
		px(x), px(y), px(w), px(h), class, html.EscapeString(title))
}

// legend names the series, in their colours, of which first is the first one's.
func (d *drawing) legend(x, y float64, names []string, first int) {
	for i, name := range names {
		d.rect(x, y-10, 12, 12, color(first+i), name)
		d.text(x+18, y, "", "start", name)
		x += 34 + 7*float64(len(name))
	}
}

func (d *drawing) writeTo(w io.Writer, title string) error {
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %s" role="img" aria-label="%s">`+"\n<style>%s</style>\n%s</svg>\n",
		width, px(d.height), html.EscapeString(title), style, d.b.String())
	return err
}

// px writes a coordinate.
func px(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// short writes a number with two digits.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 3, 64) + "M"
	case v >= 10:
		return strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// Row is a measure, with the ratios of the compared to the baseline.
type Row struct {
	Label string
	// LessIsBetter says which side of 1 is the good one.
	LessIsBetter bool
	Ratios       []float64 // NaN where there is none
}

// compared is the colour of the first that is compared to the baseline, which has the
// first one in Growth.
const compared = 1

// Bars draws a bar for each ratio: to the right of the line at 1 what is better than the
// baseline, to the left what is worse, on a logarithmic scale.
func Bars(w io.Writer, title, baseline string, names []string, rows []Row) error {
	const left, right = 330.0, 60.0
	d := &drawing{}
	d.text(margin, 24, "title", "start", title)
	d.legend(margin, 48, names, compared)
	reach := 1.0
	for _, row := range rows {
		for _, ratio := range row.Ratios {
			if ratio > 0 && !math.IsInf(ratio, 0) {
				reach = max(reach, math.Ceil(math.Abs(math.Log2(ratio))))
			}
		}
	}
	reach = min(reach, 6)
	middle := (left + width - right) / 2
	scale := (width - right - left - 60) / 2 / reach
	rowHeight := barHeight*float64(len(names)) + rowGap
	bottom := headHeight + 24 + rowHeight*float64(len(rows))
	for power := -reach; power <= reach; power++ {
		x := middle + power*scale
		class := "line"
		if power == 0 {
			class = "one"
		}
		d.line(x, headHeight+14, x, bottom, class)
		switch {
		case power > 0:
			d.text(x, headHeight+8, "quiet", "middle", short(math.Exp2(power))+"×")
		case power < 0:
			d.text(x, headHeight+8, "quiet", "middle", "1/"+short(math.Exp2(-power)))
		default: // longer than the lines are apart
			d.text(x, headHeight-6, "quiet", "middle", "as "+baseline)
		}
	}
	y := headHeight + 20.0
	for _, row := range rows {
		d.text(left-12, y+rowHeight/2, "", "end", row.Label)
		for i, ratio := range row.Ratios {
			at := y + barHeight*float64(i)
			if math.IsNaN(ratio) || ratio <= 0 {
				continue
			}
			gain := math.Log2(ratio)
			if row.LessIsBetter {
				gain = -gain
			}
			length := min(math.Abs(gain), reach) * scale
			says := short(ratio)
			if gain >= 0 {
				d.rect(middle, at, length, barHeight-2, color(compared+i), names[i]+": "+says)
				d.text(middle+length+5, at+barHeight-3, "", "start", says)
			} else {
				d.rect(middle-length, at, length, barHeight-2, color(compared+i), names[i]+": "+says)
				d.text(middle-length-5, at+barHeight-3, "", "end", says)
			}
		}
		y += rowHeight
	}
	d.text(middle+8, bottom+16, "quiet", "start", "better →")
	d.text(middle-8, bottom+16, "quiet", "end", "← worse")
	d.height = bottom + 28
	return d.writeTo(w, title)
}

// Panel is a measure at several numbers of connections.
type Panel struct {
	Title  string
	Series [][]Point // by contestant; none where there is nothing to show
}

// Point is a measure at a number of connections.
type Point struct{ X, Y float64 }

// Growth draws a panel for each measure, two in a row, with the number of connections on a
// logarithmic scale.
func Growth(w io.Writer, title string, names []string, panels []Panel) error {
	const panelHeight, gap = 230.0, 24.0
	panelWidth := (width - 2*margin - gap) / 2
	d := &drawing{}
	d.text(margin, 24, "title", "start", title)
	d.legend(margin, 48, names, 0)
	for i, p := range panels {
		x := margin + float64(i%2)*(panelWidth+gap)
		y := headHeight + float64(i/2)*(panelHeight+gap)
		d.panel(p, names, x, y, panelWidth, panelHeight)
	}
	d.height = headHeight + math.Ceil(float64(len(panels))/2)*(panelHeight+gap)
	return d.writeTo(w, title)
}

func (d *drawing) panel(p Panel, names []string, x, y, w, h float64) {
	d.text(x, y+12, "", "start", p.Title)
	var xs []float64
	top := 0.0
	for _, points := range p.Series {
		for _, point := range points {
			xs = append(xs, point.X)
			top = max(top, point.Y)
		}
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	if len(xs) == 0 {
		d.text(x+w/2, y+h/2, "quiet", "middle", "nothing measured")
		return
	}
	top = cmp.Or(niceAbove(top), 1)
	left, right, ceiling, floor := x+44, x+w-12, y+26, y+h-24
	atX := func(v float64) float64 {
		if len(xs) == 1 {
			return (left + right) / 2
		}
		return left + (right-left)*(math.Log(v)-math.Log(xs[0]))/(math.Log(xs[len(xs)-1])-math.Log(xs[0]))
	}
	atY := func(v float64) float64 { return floor - (floor-ceiling)*v/top }
	for i := range 5 {
		v := top * float64(i) / 4
		d.line(left, atY(v), right, atY(v), "line")
		d.text(left-6, atY(v)+4, "quiet", "end", short(v))
	}
	for _, v := range xs {
		d.text(atX(v), floor+16, "quiet", "middle", short(v))
	}
	for i, points := range p.Series {
		var at []string
		for _, point := range points {
			at = append(at, px(atX(point.X))+","+px(atY(point.Y)))
			fmt.Fprintf(&d.b, `<circle cx="%s" cy="%s" r="3" class="%s"><title>%s: %s</title></circle>`+"\n",
				px(atX(point.X)), px(atY(point.Y)), color(i), html.EscapeString(names[i]), short(point.Y))
		}
		fmt.Fprintf(&d.b, `<polyline points="%s" class="%s curve"/>`+"\n", strings.Join(at, " "), color(i))
	}
}

// niceAbove returns the first of 1, 2, 4 and 8, times a power of ten, that is not below v.
func niceAbove(v float64) float64 {
	if v <= 0 {
		return 0
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 4, 8} {
		if step*power >= v {
			return step * power
		}
	}
	return 10 * power
}
