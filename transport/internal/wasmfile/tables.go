package wasmfile

import "fmt"

const (
	tableSection = 4
	// maxTable is how many entries a table may grow to: nothing else bounds the host's
	// memory that it takes, some bytes for each. A module may declare as many.
	maxTable = 100_000
)

// boundTables gives each table a maximum.
func (m *module) boundTables() {
	n, tables, err := vector(find(m.sections, tableSection))
	if err != nil {
		m.fail(fmt.Errorf("table section: %w", err))
		return
	}
	var out []byte
	r := &reader{b: tables}
	for range n {
		kind, flags, least := r.byte(), r.byte(), r.u32()
		most := uint32(maxTable)
		if flags&limitsMax != 0 {
			most = min(most, r.u32())
		}
		out = appendU32(append(out, kind, limitsMax), least)
		out = appendU32(out, max(most, least))
	}
	switch {
	case r.err != nil || r.more():
		m.fail(fmt.Errorf("table section: %w", errShort))
	case n > 0:
		m.sections = put(m.sections, tableSection, n, out)
	}
}
