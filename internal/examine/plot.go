package examine

import (
	"fmt"
	"math"

	"waterproxy/internal/examine/record"
)

// plot is a drawing, in the units of its viewBox.
type plot struct {
	Class         string
	Width, Height int
	Caption       string
	Lines         []plotLine
	Bars          []plotBar
	Texts         []plotText
}

type plotLine struct {
	X1, Y1, X2, Y2 float64
	Class          string
}

type plotBar struct {
	X, Y, Width, Height float64
	Class, Title        string
}

type plotText struct {
	X, Y         float64
	Anchor, Text string
}

// The sizes of plots.
const (
	plotWidth  = 760
	plotLeft   = 48.0
	plotRight  = plotWidth - 12.0
	packetTop  = 84.0 // of a full packet, from the middle
	plotMiddle = 96.0
	bitsTop    = 8.0 // bits of a byte
)

// packetPlot draws the first packets of a flow, one beside the other: the client's above the
// middle, the server's below, as high as they are long.
func packetPlot(s Sample) plot {
	p := packetFrame("packets", fmt.Sprintf("%s: lengths and directions of the first %d packets; above the line from the client, below from the server.", s.Kind, len(s.Packets)))
	step := (plotRight - plotLeft) / samplePackets
	for i, packet := range s.Packets {
		p.packet(plotLeft+float64(i)*step, step-3, packet)
		if (i+1)%10 == 0 {
			p.Texts = append(p.Texts, plotText{plotLeft + (float64(i)+0.5)*step, float64(p.Height) - 4, "middle", fmt.Sprint(i + 1)})
		}
	}
	return p
}

// timePlot draws the same packets where they are in time.
func timePlot(s Sample) plot {
	p := packetFrame("timing", fmt.Sprintf("%s: the same packets in time.", s.Kind))
	if len(s.Packets) == 0 {
		return p
	}
	first, last := s.Packets[0].At, s.Packets[len(s.Packets)-1].At
	span := max(last-first, 1e-6)
	const bar = 2.0
	for _, packet := range s.Packets {
		p.packet(plotLeft+(packet.At-first)/span*(plotRight-plotLeft-bar), bar, packet)
	}
	const ticks = 5
	for i := range ticks {
		share := float64(i) / (ticks - 1)
		p.Texts = append(p.Texts, plotText{plotLeft + share*(plotRight-plotLeft), float64(p.Height) - 4, anchorOf(i, ticks), fmt.Sprintf("%.1f ms", share*span*1e3)})
	}
	return p
}

// anchorOf keeps the first and the last label of an axis within it.
func anchorOf(i, n int) string {
	switch i {
	case 0:
		return "start"
	case n - 1:
		return "end"
	}
	return "middle"
}

func packetFrame(class, caption string) plot {
	p := plot{Class: class, Width: plotWidth, Height: int(2*plotMiddle) + 16, Caption: caption}
	for _, length := range []float64{record.MSS, 0, -record.MSS} {
		y := plotMiddle - length/record.MSS*packetTop
		p.Lines = append(p.Lines, plotLine{plotLeft, y, plotRight, y, "axis"})
		p.Texts = append(p.Texts, plotText{plotLeft - 6, y + 4, "end", fmt.Sprint(math.Abs(length))})
	}
	return p
}

func (p *plot) packet(x, width float64, packet SamplePacket) {
	bar := plotBar{X: x, Y: plotMiddle, Width: width, Height: max(float64(packet.Length)/record.MSS*packetTop, 1), Class: "down"}
	if packet.Direction == record.ToServer.String() {
		bar.Y -= bar.Height
		bar.Class = "up"
	}
	bar.Title = fmt.Sprintf("%s, %d bytes, %.2f ms", packet.Direction, packet.Length, packet.At*1e3)
	p.Bars = append(p.Bars, bar)
}

// entropyPlot draws how many bits of information there are at each position of a side's first
// payload, and how many random bytes would have.
func entropyPlot(side, class string, bits []float64, random float64) plot {
	const floor, ceiling = 150.0, 12.0
	p := plot{Class: "entropy", Width: plotWidth, Height: int(floor) + 20,
		Caption: fmt.Sprintf("Entropy of the %s's first payload by position, in bits; the broken line is what random bytes have over as many flows.", side)}
	at := func(v float64) float64 { return floor - v/bitsTop*(floor-ceiling) }
	for v := 0.0; v <= bitsTop; v += 2 {
		p.Lines = append(p.Lines, plotLine{plotLeft, at(v), plotRight, at(v), "axis"})
		p.Texts = append(p.Texts, plotText{plotLeft - 6, at(v) + 4, "end", fmt.Sprint(v)})
	}
	p.Lines = append(p.Lines, plotLine{plotLeft, at(random), plotRight, at(random), "reference"})
	step := (plotRight - plotLeft) / entropyBytes
	for i, v := range bits {
		p.Bars = append(p.Bars, plotBar{plotLeft + float64(i)*step, at(v), step - 1, floor - at(v), class, fmt.Sprintf("byte %d: %.2f bits", i, v)})
		if i%16 == 0 {
			p.Texts = append(p.Texts, plotText{plotLeft + (float64(i)+0.5)*step, floor + 14, "middle", fmt.Sprint(i)})
		}
	}
	return p
}
