package main

import (
	"math/rand"
	randv2 "math/rand/v2"
)

// distribution chooses numbers, each with a probability of its own. Which numbers, and how
// probable they are, is drawn from a seed: the same on both sides, and another one for
// each bridge (obfs4-spec, section 5).
type distribution struct {
	values []int
	// prob and alias are the tables of Vose's alias method: value i is chosen with
	// prob[i] where the die shows i, and otherwise value alias[i].
	prob  []float64
	alias []int
}

// maxValues is how many numbers a distribution has at most.
const maxValues = 100

// newDistribution draws a distribution of numbers from 0 to most. It takes the numbers of
// math/rand's generator in the order of all implementations.
func newDistribution(s *seed, most int) *distribution {
	rng := rand.New(newGenerator(s))
	values := rng.Perm(most + 1)
	n := rng.Intn(min(most+1, maxValues)) + 1
	weights := make([]float64, n)
	for i := range weights {
		weights[i] = rng.Float64()
	}
	d := &distribution{values: append([]int(nil), values[:n]...)}
	d.tabulate(weights)
	return d
}

// tabulate makes the tables: each number that is less probable than the average is joined
// with one that is more probable, which loses as much.
func (d *distribution) tabulate(weights []float64) {
	n := len(weights)
	d.prob, d.alias = make([]float64, n), make([]int, n)
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	scaled := make([]float64, n)
	var small, large []int // queues
	sort := func(i int) {
		if scaled[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for i, w := range weights {
		scaled[i] = w * float64(n) / sum
		sort(i)
	}
	for len(small) > 0 && len(large) > 0 {
		less, more := small[0], large[0]
		small, large = small[1:], large[1:]
		d.prob[less], d.alias[less] = scaled[less], more
		scaled[more] = scaled[more] + scaled[less] - 1
		sort(more)
	}
	for _, i := range append(large, small...) { // small ones are left by rounding alone
		d.prob[i] = 1
	}
}

// sample chooses a number. It is safe for concurrent use.
func (d *distribution) sample() int {
	i := randv2.IntN(len(d.values))
	if randv2.Float64() > d.prob[i] {
		i = d.alias[i]
	}
	return d.values[i]
}
