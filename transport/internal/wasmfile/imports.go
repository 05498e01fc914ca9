package wasmfile

import "fmt"

// Kinds of imports and exports.
const (
	kindFunction = 0
	kindTable    = 1
	kindMemory   = 2
	kindGlobal   = 3
	kindTag      = 4
)

// importItem is an import as it stands in the file.
type importItem struct {
	module string
	name   string
	kind   byte
	limits []byte // of a memory
	raw    []byte
}

// eachImport calls f for every import.
func eachImport(body []byte, f func(importItem)) error {
	if body == nil {
		return nil
	}
	r := &reader{b: body}
	for range r.count() {
		start := r.at
		i := importItem{module: string(r.bytes(r.u32()))}
		i.name = string(r.bytes(r.u32()))
		i.kind = r.byte()
		at := r.at
		switch i.kind {
		case kindFunction:
			r.leb()
		case kindTable:
			r.byte()
			r.limits()
		case kindMemory:
			r.limits()
			i.limits = r.b[at:r.at]
		case kindGlobal:
			r.skip(2)
		case kindTag:
			r.byte()
			r.leb()
		default:
			r.fail(fmt.Errorf("unknown kind of import %d", i.kind))
		}
		if r.err != nil {
			return fmt.Errorf("import section: %w", r.err)
		}
		i.raw = r.b[start:r.at]
		f(i)
	}
	if r.more() {
		r.fail(fmt.Errorf("%d bytes too many", len(r.b)-r.at))
	}
	if r.err != nil {
		return fmt.Errorf("import section: %w", r.err)
	}
	return nil
}

func (r *reader) limits() {
	flags := r.byte()
	r.leb()
	if flags&1 != 0 {
		r.leb()
	}
}
