package guest

// What comes with an instance besides its linear memory, in bytes of the host's. These are
// estimates on the safe side: an entry of an element segment was seen to take 42 bytes, a
// data segment 24. A thread's call stack begins with 10 KiB, is
// part of its cost, and grows up to wazero's own limit (see SECURITY.md).
const (
	threadCost     = 64 << 10
	descriptorCost = 1 << 10
	keyCost        = 1 << 10
	globalCost     = 64
	entryCost      = 8  // of a table
	elementCost    = 64 // of an element segment's entries, and the segment itself
	segmentCost    = 32 // of data
)

// Memory returns what the instance takes of the host's memory, in bytes: its linear memory
// and what the host holds for it, which together stay within Limits.Memory. It may be
// called once Start has returned.
func (in *Instance) Memory() uint64 { return in.linear() + in.beside() }

// linear returns the size of the linear memory.
func (in *Instance) linear() uint64 {
	if in.shared != nil {
		return in.shared.bytes.Size()
	}
	return in.memory.Size()
}

// beside returns what the host holds for the instance besides: threads with their tables,
// of which each may be as large as it can become, and globals; descriptors, and what is
// queued for them; keys; what it was given to read, and has published or printed.
func (in *Instance) beside() uint64 {
	n := uint64(in.threads.count()) * in.module.threadCost()
	for _, d := range in.fds.all() {
		n += descriptorCost
		if d.endpoint != nil {
			n += uint64(d.endpoint.Held())
		}
	}
	n += uint64(in.keys.count()) * keyCost
	return n + uint64(len(in.o.Config)+len(in.o.Args)+len(in.o.Target)) + 2*maxLine + 2*maxNote
}

// threadCost returns what each thread of a module takes.
func (m *Module) threadCost() uint64 {
	t := m.tables
	return threadCost + t.Entries*entryCost + t.Globals*globalCost + t.Elements*elementCost + t.Segments*segmentCost
}

// hasRoom reports whether the host may hold so many bytes more for the instance. A limit of
// 0 is none.
func (in *Instance) hasRoom(more uint64) bool {
	return in.o.Limits.Memory == 0 || in.Memory()+more <= in.o.Limits.Memory
}

// LeastMemory returns what an instance takes at its start.
func (m *Module) LeastMemory() uint64 { return m.memory.Min + m.threadCost() }
