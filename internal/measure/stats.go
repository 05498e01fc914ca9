package measure

import (
	"math"
	"slices"
	"time"
)

// Summary is the spread of one measure over the rounds of a run.
type Summary struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
	N      int     `json:"n"`
}

// Summarize returns the spread of values, the zero Summary when there are none.
// A value that is not a number is left out.
func Summarize(values []float64) Summary {
	ordered := ascending(values)
	if len(ordered) == 0 {
		return Summary{}
	}
	return Summary{
		Min:    ordered[0],
		Median: quantile(ordered, 0.5),
		Max:    ordered[len(ordered)-1],
		N:      len(ordered),
	}
}

// Quantile returns the q-th quantile (0 to 1) of values, interpolated between
// the two nearest ranks, or NaN when there are no values.
func Quantile(values []float64, q float64) float64 {
	return quantile(ascending(values), q)
}

// Spread is the median and the 99th percentile of times.
type Spread struct {
	P50, P99 time.Duration
}

func spread(times []time.Duration) Spread {
	values := make([]float64, len(times))
	for i, d := range times {
		values[i] = float64(d)
	}
	return Spread{P50: time.Duration(Quantile(values, 0.5)), P99: time.Duration(Quantile(values, 0.99))}
}

// Ratios divides value by base, round by round. A round in which either is NaN
// (it failed, or was not measured) or the base is not positive gives no ratio.
func Ratios(values, base []float64) []float64 {
	var ratios []float64
	for i := range min(len(values), len(base)) {
		if math.IsNaN(values[i]) || math.IsNaN(base[i]) || base[i] <= 0 {
			continue
		}
		ratios = append(ratios, values[i]/base[i])
	}
	return ratios
}

func ascending(values []float64) []float64 {
	ordered := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(ordered)
	return ordered
}

func quantile(ordered []float64, q float64) float64 {
	if len(ordered) == 0 {
		return math.NaN()
	}
	rank := min(max(q, 0), 1) * float64(len(ordered)-1)
	below := int(rank)
	if below == len(ordered)-1 {
		return ordered[below]
	}
	part := rank - float64(below)
	return ordered[below]*(1-part) + ordered[below+1]*part
}
