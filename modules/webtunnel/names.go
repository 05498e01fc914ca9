package main

import (
	"math/rand/v2"
	"strings"
	"sync"
)

// serverNames remembers which name of each bridge's list has worked. A censor may block
// connections to some names and not to others.
type serverNames struct {
	mu sync.Mutex
	at map[string]int // position in a list, by its names
}

// mostLists is how many are remembered. A client uses a few bridges.
const mostLists = 64

func listKey(b *bridge) string { return b.dial + " " + strings.Join(b.names, ",") }

// current returns the name to ask the bridge for, at first a random one of its list.
func (s *serverNames) current(b *bridge) string {
	if len(b.names) == 1 {
		return b.names[0]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := listKey(b)
	i, ok := s.at[key]
	if !ok {
		if s.at == nil || len(s.at) == mostLists {
			s.at = map[string]int{}
		}
		i = rand.IntN(len(b.names))
		s.at[key] = i
	}
	return b.names[i]
}

// failed moves on to the next name, unless another connection has done that.
func (s *serverNames) failed(b *bridge, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := listKey(b)
	if i, ok := s.at[key]; ok && b.names[i] == name {
		s.at[key] = (i + 1) % len(b.names)
	}
}
