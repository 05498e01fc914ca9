package repository

import (
	"fmt"
	"strings"
	"testing"

	"waterproxy/internal/release"
)

// TestLargeIndex: a thousand transports, each with as many versions as are kept, are read
// again.
func TestLargeIndex(t *testing.T) {
	s := New(t.TempDir())
	version := func(name string, n int) Version {
		return Version{
			Release: release.Release{Transport: name, Version: fmt.Sprint(n), Description: strings.Repeat("d", 200)},
			SHA256:  fmt.Sprintf("%064x", n), Length: 1, Signers: []string{"12345678", "87654321"},
		}
	}
	err := s.change(t.Context(), func(i *Index) error {
		for n := range 1000 {
			name := fmt.Sprintf("transport%d", n)
			current, next := version(name, 1), version(name, 2)
			i.Modules[name] = &Module{Current: &current, Next: &next, Kept: []Version{version(name, 3), version(name, 4)}}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if i, err := s.Index(); err != nil || len(i.Names()) != 1000 {
		t.Error(err)
	}
}
