package tornet

import "sync"

// The stages of a network's start, in their order, as a [Progress] sees them.
const (
	StageAuthority = "authority"
	StageConsensus = "consensus"
	StageBridge    = "bridge"
	StageClient    = "client"
)

// Progress gets how far a stage of the start is, in percent. Within a stage
// the percentage never falls, and 100 means that the stage is over. Calls do
// not overlap within one Start function.
type Progress func(stage string, percent int)

// stage returns a function that reports the percentages of one stage, leaving
// out those that do not rise.
func (p Progress) stage(name string) func(percent int) {
	var mu sync.Mutex
	highest := -1
	return func(percent int) {
		mu.Lock()
		defer mu.Unlock()
		if p == nil || percent <= highest {
			return
		}
		highest = percent
		p(name, percent)
	}
}
