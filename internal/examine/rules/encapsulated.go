package rules

import (
	"math"
	"slices"

	"waterproxy/internal/examine/record"
)

// Model is a distribution of the bytes in four successive bursts of a TLS handshake that
// another protocol carries: the client's, the server's, and once more both. Xue et al.,
// "Fingerprinting Obfuscated Proxy Traffic with Encapsulated TLS Handshakes" (USENIX
// Security 2024); the figures are those that nDPI ships (its pull request 2553).
type Model struct {
	Name      string  // the handshake, as in "TLS 1.3, Firefox"
	Threshold float64 // of the Mahalanobis distance; what is nearer matches
	leastC1   float64 // bytes of the first burst
	mean      [4]float64
	inverse   [4][4]float64 // of the covariance
}

// Models are the published ones.
var Models = []Model{
	{
		Name: "TLS 1.2, Firefox", Threshold: 3.5,
		mean: [4]float64{212.88, 4514.71, 107.77, 307.58},
		inverse: symmetric([4]float64{2.924e-4, 5.990e-7, 7.689e-4, 5.728e-5},
			4.437e-7, -5.700e-5, -2.181e-6, -3.598e-7, 5.716e-7, 2.223e-5),
	},
	{
		Name: "TLS 1.3, Firefox", Threshold: 3.0, leastC1: 517,
		mean: [4]float64{640.66, 4649.30, 448.41, 1094.20},
		inverse: symmetric([4]float64{3.080e-5, 6.932e-7, 1.026e-6, 8.633e-8},
			1.162e-7, 1.054e-7, 3.886e-8, 2.774e-8, -3.637e-9, -1.088e-8),
	},
	{
		Name: "TLS 1.3, Chrome, post-quantum", Threshold: 3.0,
		mean: [4]float64{1850.43, 4903.08, 785.25, 1051.22},
		inverse: symmetric([4]float64{6.724e-6, 5.647e-7, 6.041e-7, 1.012e-7},
			-2.321e-8, 6.671e-8, 1.253e-8, 4.590e-8, 6.413e-9, -9.151e-10),
	},
}

// symmetric makes a matrix of its diagonal and of the values above it, row by row.
func symmetric(diagonal [4]float64, v01, v02, v03, v12, v13, v23 float64) [4][4]float64 {
	return [4][4]float64{
		{diagonal[0], v01, v02, v03},
		{v01, diagonal[1], v12, v13},
		{v02, v12, diagonal[2], v23},
		{v03, v13, v23, diagonal[3]},
	}
}

// Distance returns the Mahalanobis distance of a 4-gram from the model, and infinity for one
// that the model does not consider.
func (m *Model) Distance(g FourGram) float64 {
	if g.Packets > firstBurstPackets || g.Bytes[0] < m.leastC1 {
		return math.Inf(1)
	}
	sum := 0.0
	for i := range g.Bytes {
		for j := range g.Bytes {
			sum += (g.Bytes[i] - m.mean[i]) * m.inverse[i][j] * (g.Bytes[j] - m.mean[j])
		}
	}
	return math.Sqrt(max(sum, 0))
}

const (
	// firstBurstPackets is how many packets the first burst has at most: a ClientHello
	// has no more.
	firstBurstPackets = 3
	// heuristicPackets is at how many packets of a flow the detector looks.
	heuristicPackets = 25
	// recordOverhead is what an outer TLS adds to a packet.
	recordOverhead = 24
)

// FourGram is how many bytes four successive bursts have, the first of them the client's. A
// burst is what one side sends without a packet of the other between.
type FourGram struct {
	Bytes   [4]float64
	Packets int // of the first burst
}

// FourGrams returns one for each burst of the client that three whole ones follow, in the
// part of the flow at which the detector looks. inTLS says that the flow itself is TLS:
// then what comes before the client's ChangeCipherSpec is the outer handshake and is left
// out, and what TLS adds to each packet is subtracted.
func FourGrams(packets []record.Packet, inTLS bool) (all []FourGram) {
	if inTLS {
		packets = afterHandshake(packets)
	}
	packets = packets[:min(len(packets), heuristicPackets)]
	type burst struct {
		direction record.Direction
		bytes     float64
		packets   int
	}
	var bursts []burst
	for _, p := range packets {
		if len(bursts) == 0 || bursts[len(bursts)-1].direction != p.Direction {
			bursts = append(bursts, burst{direction: p.Direction})
		}
		b := &bursts[len(bursts)-1]
		b.packets++
		if b.bytes += float64(p.Length); inTLS {
			b.bytes -= min(recordOverhead, float64(p.Length))
		}
	}
	// The last burst may go on: only another one ends it.
	for i := 0; i+4 < len(bursts); i++ {
		if bursts[i].direction != record.ToServer {
			continue
		}
		g := FourGram{Packets: bursts[i].packets}
		for k := range g.Bytes {
			g.Bytes[k] = bursts[i+k].bytes
		}
		all = append(all, g)
	}
	return all
}

// changeCipherSpec is the record's type.
const changeCipherSpec = 20

// afterHandshake drops the packets up to the one with the client's ChangeCipherSpec, which a
// client of TLS 1.3 sends as well, with its Finished or before (RFC 8446, appendix D.4).
func afterHandshake(packets []record.Packet) []record.Packet {
	i := slices.IndexFunc(packets, func(p record.Packet) bool {
		return p.Direction == record.ToServer && hasChangeCipherSpec(p.Data)
	})
	if i < 0 {
		return nil
	}
	return packets[i+1:]
}

// hasChangeCipherSpec walks over the records of a packet that begins with one. In TLS 1.2 the
// client's key comes before it.
func hasChangeCipherSpec(data []byte) bool {
	for len(data) >= 5 {
		if data[0] == changeCipherSpec {
			return true
		}
		data = data[min(len(data), 5+(int(data[3])<<8|int(data[4]))):]
	}
	return false
}
