package rules

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"waterproxy/internal/examine/record"
)

// Payloads made by hand for each rule, and for its bounds.
func TestExemptions(t *testing.T) {
	// 0x0f and 0xf0 have 4 bits each and are not printable: no rule holds.
	neutral := func(n int) []byte { return bytes.Repeat([]byte{0x0f, 0xf0}, n/2) }
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	text := func(n int) []byte { return []byte(strings.Repeat("\x27", n)) } // printable, 4 bits
	for name, test := range map[string]struct {
		payload []byte
		want    []Rule
	}{
		"nothing":              {nil, nil},
		"neutral":              {neutral(200), nil},
		"3.4 bits":             {join(bytes.Repeat([]byte{0x0f}, 40), bytes.Repeat([]byte{0x07}, 60)), []Rule{Popcount}},
		"3.41 bits":            {join(bytes.Repeat([]byte{0x0f}, 41), bytes.Repeat([]byte{0x07}, 59)), nil},
		"4.6 bits":             {join(bytes.Repeat([]byte{0x0f}, 40), bytes.Repeat([]byte{0x1f}, 60)), []Rule{Popcount}},
		"4.59 bits":            {join(bytes.Repeat([]byte{0x0f}, 41), bytes.Repeat([]byte{0x1f}, 59)), nil},
		"six printable":        {join(text(6), neutral(100)), []Rule{PrintableSix}},
		"five printable":       {join(text(5), neutral(100)), nil},
		"half printable":       {bytes.Repeat([]byte{0x0f, 0x27}, 50), nil},
		"more than half":       {join(bytes.Repeat([]byte{0x0f, 0x27}, 50), text(1)), []Rule{PrintableHalf}},
		"20 in a row":          {join(neutral(100), text(20), neutral(100)), nil},
		"21 in a row":          {join(neutral(100), text(21), neutral(100)), []Rule{PrintableRun}},
		"TLS":                  {join([]byte{0x16, 3, 1}, neutral(100)), []Rule{KnownProtocol}},
		"TLS data":             {join([]byte{0x17, 3, 9}, neutral(100)), []Rule{KnownProtocol}},
		"TLS of version 10":    {join([]byte{0x17, 3, 10}, neutral(100)), nil},
		"a TLS alert":          {join([]byte{0x15, 3, 3}, neutral(100)), nil},
		"two bytes of TLS":     {[]byte{0x17, 3}, []Rule{Popcount}},
		"GET":                  {join([]byte("GET "), neutral(100)), []Rule{KnownProtocol}},
		"get":                  {join([]byte("get "), neutral(100)), nil},
		"a request":            {[]byte("POST / HTTP/1.1\r\nHost: example.org\r\n\r\n"), []Rule{Popcount, PrintableSix, PrintableHalf, KnownProtocol}},
		"0x7f is no character": {join(bytes.Repeat([]byte{0x7f}, 6), bytes.Repeat([]byte{0x07}, 6*3), neutral(100)), nil},
	} {
		if got := Exemptions(test.payload); !slices.Equal(got, test.want) {
			t.Errorf("%s: exempt by %v, want %v", name, got, test.want)
		}
	}
}

// Of uniformly random payloads as many are exempt as has been published, and measured before.
func TestRandomExemptions(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	const payloads = 20_000
	for length, want := range map[int][2]float64{ // the share in percent, from and to
		50: {2.3, 3.5}, 100: {0.3, 1.0}, 143: {0.1, 0.7}, 500: {0.05, 0.6},
	} {
		exempt := 0
		payload := make([]byte, length)
		for range payloads {
			random.Read(payload)
			if len(Exemptions(payload)) > 0 {
				exempt++
			}
		}
		if share := 100 * float64(exempt) / payloads; share < want[0] || share > want[1] {
			t.Errorf("%.2f %% of random payloads of %d bytes are exempt, want %v", share, length, want)
		}
	}
}

// packets are of the lengths given; negative ones go to the client.
func packets(lengths ...int) (all []record.Packet) {
	for _, n := range lengths {
		p := record.Packet{Length: n, Data: make([]byte, max(n, -n))}
		if n < 0 {
			p.Direction, p.Length = record.ToClient, -n
		}
		all = append(all, p)
	}
	return all
}

func TestFourGrams(t *testing.T) {
	for name, test := range map[string]struct {
		packets []record.Packet
		inTLS   bool
		want    []FourGram
	}{
		"nothing":    {nil, false, nil},
		"not ended":  {packets(517, -1448, -1448, 80, -500), false, nil},
		"one":        {packets(517, -1448, -1448, 80, -500, 10), false, []FourGram{{[4]float64{517, 2896, 80, 500}, 1}}},
		"overlap":    {packets(100, 417, -1448, 80, -500, 10, -20, 30), false, []FourGram{{[4]float64{517, 1448, 80, 500}, 2}, {[4]float64{80, 500, 10, 20}, 1}}},
		"server 1st": {packets(-50, 517, -1448, 80, -500, 10), false, []FourGram{{[4]float64{517, 1448, 80, 500}, 1}}},
		"no outer":   {packets(517, -1448, 80, -500, 10), true, nil},
	} {
		got := FourGrams(test.packets, test.inTLS)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	outer := packets(517, -3000, 64, 541, -1448, -1472, 104, -20, 1)
	// A client's key of 1 byte, and then the ChangeCipherSpec.
	copy(outer[2].Data, []byte{22, 3, 3, 0, 1, 0, changeCipherSpec, 3, 3, 0, 1, 1})
	if got, want := FourGrams(outer, true), (FourGram{[4]float64{517, 2872, 80, 0}, 1}); len(got) != 1 || got[0] != want {
		t.Errorf("within TLS: %v, want %v", got, want)
	}
	// What comes late is not looked at.
	var late []record.Packet
	for range 25 {
		late = append(late, packets(-1000)...)
	}
	if got := FourGrams(append(late, packets(517, -1448, 80, -500, 10)...), false); len(got) != 0 {
		t.Errorf("after 25 packets: %v", got)
	}
}

// The distance is 0 at the mean, and one standard deviation is 1 where nothing else varies.
func TestDistance(t *testing.T) {
	for _, m := range Models {
		g := FourGram{m.mean, 1}
		if d := m.Distance(g); d != 0 {
			t.Errorf("%s: the mean is %v away", m.Name, d)
		}
		for i := range g.Bytes {
			g := g
			g.Bytes[i] += 2 / math.Sqrt(m.inverse[i][i])
			if d := m.Distance(g); math.Abs(d-2) > 1e-9 {
				t.Errorf("%s: two deviations in burst %d are %v", m.Name, i+1, d)
			}
			for j := range g.Bytes {
				if m.inverse[i][j] != m.inverse[j][i] {
					t.Errorf("%s: the matrix is not symmetric", m.Name)
				}
			}
		}
		g.Packets = 4
		if d := m.Distance(g); !math.IsInf(d, 1) {
			t.Errorf("%s: a first burst of 4 packets is %v away", m.Name, d)
		}
	}
	if d := Models[1].Distance(FourGram{[4]float64{516, 4649, 448, 1094}, 1}); !math.IsInf(d, 1) {
		t.Errorf("a ClientHello of 516 bytes is %v away", d)
	}
	// By hand: only two bursts differ from the mean, by 100 and by 1000 bytes.
	want := math.Sqrt(1e4*2.924e-4 + 1e6*5.990e-7 + 2*1e5*4.437e-7)
	if d := Models[0].Distance(FourGram{[4]float64{312.88, 5514.71, 107.77, 307.58}, 1}); math.Abs(d-want) > 1e-9 {
		t.Errorf("the distance is %v, want %v", d, want)
	}
}

func TestEntropy(t *testing.T) {
	if got := Entropy([][]byte{{1, 0, 9}, {1, 1, 9, 9}, {1, 2, 9}, {1, 3, 8}}, 3); !slices.Equal(got[:2], []float64{0, 2}) || len(got) != 3 {
		t.Errorf("%v", got)
	}
	if got := Entropy(nil, 10); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
	random := rand.NewChaCha8([32]byte{2})
	payloads := make([][]byte, 200)
	for i := range payloads {
		payloads[i] = make([]byte, 100)
		random.Read(payloads[i])
	}
	sum := 0.0
	for _, e := range Entropy(payloads, 100) {
		sum += e / 100
	}
	if want := RandomEntropy(200); math.Abs(sum-want) > 0.05 {
		t.Errorf("random bytes have %.3f bits, and %.3f are expected", sum, want)
	}
}
