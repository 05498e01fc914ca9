package rules

import "math"

// Entropy returns for each position how many bits of information a byte there has, over many
// payloads: 0 if it is the same in all, log2 of their number at most, and 8 for random bytes
// of very many. Only positions that all payloads have are looked at, and no more than limit.
func Entropy(payloads [][]byte, limit int) []float64 {
	for _, p := range payloads {
		limit = min(limit, len(p))
	}
	if len(payloads) == 0 {
		limit = 0
	}
	bits := make([]float64, limit)
	for i := range bits {
		var counts [256]int
		for _, p := range payloads {
			counts[p[i]]++
		}
		for _, n := range counts {
			if n > 0 {
				share := float64(n) / float64(len(payloads))
				bits[i] -= share * math.Log2(share)
			}
		}
		bits[i] = max(bits[i], 0) // not -0
	}
	return bits
}

// RandomEntropy returns what Entropy finds, on average, at a position of random bytes over so
// many payloads: fewer bits than 8, since few payloads have few values (Miller, 1955, takes
// half of (values-1)/payloads nats off; the sum here is exact).
func RandomEntropy(payloads int) float64 {
	// The number of payloads that have one of 256 values is binomial.
	n := float64(payloads)
	logFactorial := func(k float64) float64 { v, _ := math.Lgamma(k + 1); return v }
	sum := 0.0
	for k := 1.0; k <= n; k++ {
		logShare := logFactorial(n) - logFactorial(k) - logFactorial(n-k) + k*math.Log(1.0/256) + (n-k)*math.Log(255.0/256)
		sum -= math.Exp(logShare) * k / n * math.Log2(k/n)
	}
	return 256 * sum
}
