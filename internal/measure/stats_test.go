package measure

import (
	"math"
	"slices"
	"testing"
)

func TestSummarize(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		values []float64
		want   Summary
	}{
		{nil, Summary{}},
		{[]float64{nan}, Summary{}},
		{[]float64{3}, Summary{3, 3, 3, 1}},
		{[]float64{3, 1, 2}, Summary{1, 2, 3, 3}},
		{[]float64{4, 1, 2, 3}, Summary{1, 2.5, 4, 4}},
		{[]float64{4, nan, 2}, Summary{2, 3, 4, 2}},
	} {
		before := slices.Clone(c.values)
		if got := Summarize(c.values); got != c.want {
			t.Errorf("%v: got %+v, want %+v", c.values, got, c.want)
		}
		for i := range before {
			if before[i] != c.values[i] && !math.IsNaN(before[i]) {
				t.Errorf("the values were reordered: %v", c.values)
			}
		}
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]float64, 101)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{
		{hundred, 0, 0}, {hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 2, 100},
		{[]float64{1, 2}, 0.25, 1.25},
		{[]float64{7}, 0.99, 7},
	} {
		if got := Quantile(c.values, c.q); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("quantile %v of %d values: got %v, want %v", c.q, len(c.values), got, c.want)
		}
	}
	if got := Quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing: %v, want NaN", got)
	}
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	nan := math.NaN()
	got := Ratios([]float64{10, nan, 30, 40, 50}, []float64{5, 5, nan, 0})
	if want := []float64{2}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
