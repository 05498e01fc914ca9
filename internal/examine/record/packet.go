package record

import "time"

// MSS is the payload of a full TCP segment with timestamps on Ethernet. Segments on loopback
// are larger; they are cut to this length, as a network would.
const MSS = 1448

// Packet is a segment, or a part of one, as a network carries it.
type Packet struct {
	Direction Direction
	At        time.Duration
	Length    int
	Data      []byte // nil if it was not kept
}

// Packets cuts the segments of a flow into packets.
func (f *Flow) Packets() []Packet {
	var all []Packet
	for _, s := range f.Segments {
		for begin := 0; begin < s.Length; begin += MSS {
			p := Packet{Direction: s.Direction, At: s.At, Length: min(MSS, s.Length-begin)}
			if s.Data != nil {
				p.Data = s.Data[begin : begin+p.Length]
			}
			all = append(all, p)
		}
	}
	return all
}

// Stream returns the bytes of one direction, as far as they are kept.
func (f *Flow) Stream(d Direction) (stream []byte) {
	for _, s := range f.Segments {
		if s.Direction == d {
			stream = append(stream, s.Data...)
		}
	}
	return stream
}

// FirstPayload returns the payload of the first packet of a direction, nil if there is none.
func (f *Flow) FirstPayload(d Direction) []byte {
	for _, p := range f.Packets() {
		if p.Direction == d {
			return p.Data
		}
	}
	return nil
}

// Opening returns what the client sends before the server sends anything.
func (f *Flow) Opening() (opening []byte) {
	for _, s := range f.Segments {
		if s.Direction == ToClient {
			break
		}
		opening = append(opening, s.Data...)
	}
	return opening
}

// RoundTrips counts how often, until a moment, the client has sent again after it has heard
// from the server: how often it had to wait.
func (f *Flow) RoundTrips(until time.Duration) (n int) {
	last := ToServer
	for _, s := range f.Segments {
		if s.At > until {
			break
		}
		if last == ToClient && s.Direction == ToServer {
			n++
		}
		last = s.Direction
	}
	return n
}
