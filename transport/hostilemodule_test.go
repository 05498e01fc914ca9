package transport

import (
	"encoding/binary"
	"math"
	"strings"
)

// The modules of TestHostile are made here, instruction by instruction: they do one thing
// that no honest module does, at one stage, and are otherwise what the v1 ABI asks for.

// hostileStages are when a module does it. The last is in the server's role.
var hostileStages = []string{"section", "initialize", "init", "dial", "ctrlpipe", "start", "poll", "accept"}

// works reports whether a stage is after the set-up of a connection.
func works(stage string) bool { return stage == "start" || stage == "poll" }

// builder makes one module. Where its memory has what is in the constants.
type builder struct {
	imports []string // MODULE.NAME SIGNATURE
	data    []byte   // at dataAt
	table   int      // entries at the start, at least 2
	leaf    string   // the code of a function that has none but this; see callLeaf
}

const (
	callerAt   = 16 // the caller's descriptor, once it is known
	scratchAt  = 64
	dataAt     = 4096
	pageSize   = 65536
	wasiModule = "wasi_snapshot_preview1."
)

func leb(n uint64) []byte { return binary.AppendUvarint(nil, n) }

// signed is LEB128 of a signed number.
func signed(n int64) (b []byte) {
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Instructions.
const (
	insUnreachable = "\x00"
	insDrop        = "\x1a"
	insEnd         = "\x0b"
)

func constant(n int32) string { return "\x41" + string(signed(int64(n))) }
func long(n int64) string     { return "\x42" + string(signed(n)) }

// forever repeats what leaves nothing on the stack.
func forever(body string) string { return "\x03\x40" + body + "\x0c\x00" + insEnd }

// until repeats what leaves a number on the stack until it is n.
func until(body string, n int32) string {
	return "\x03\x40" + body + constant(n) + "\x47\x0d\x00" + insEnd
}

// refusedOr traps if what a call returns is a refusal, and exits with a status of its own if
// the instructions of granted say that it is none.
func (b *builder) refusedOr(what string, granted string) string {
	return what + granted + "\x04\x40" + b.call(wasiModule+"proc_exit i", constant(77)) + insEnd + insUnreachable
}

// call calls a function of the host, written as MODULE.NAME PARAMETERS:RESULT, in which i
// is an i32 and I an i64; without a colon there is no result.
func (b *builder) call(function string, args ...string) string {
	index := len(b.imports)
	for i, have := range b.imports {
		if have == function {
			index = i
		}
	}
	if index == len(b.imports) {
		b.imports = append(b.imports, function)
	}
	return strings.Join(args, "") + "\x10" + string(leb(uint64(index)))
}

// put adds bytes to the memory, and returns where they are and how many.
func (b *builder) put(s string) (at, n int32) {
	at = int32(dataAt + len(b.data))
	b.data = append(b.data, s...)
	for len(b.data)%8 != 0 {
		b.data = append(b.data, 0)
	}
	return at, int32(len(s))
}

// vector puts an array of one buffer.
func (b *builder) vector(s string) (at int32) {
	base, n := b.put(s)
	at, _ = b.put(string(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(base)), uint32(n))))
	return at
}

func list(items ...string) string { return string(leb(uint64(len(items)))) + strings.Join(items, "") }

func sized(s string) string { return string(leb(uint64(len(s)))) + s }

func sectionOf(id byte, content string) string { return string(id) + sized(content) }

func typeOf(signature string) string {
	params, result, hasResult := strings.Cut(signature, ":")
	kind := strings.NewReplacer("i", "\x7f", "I", "\x7e")
	t := "\x60" + sized(kind.Replace(params))
	if !hasResult {
		return t + "\x00"
	}
	return t + sized(kind.Replace(result))
}

// module makes the file. body is what is done at the stage, and leaves nothing on the
// stack.
func (b *builder) module(stage, body string) []byte {
	at := func(s string) string {
		if s == stage {
			return body
		}
		return ""
	}
	load := func(at int32) string { return constant(at) + "\x28\x02\x00" }
	dial := b.call("env.water_dial_fixed :i")
	accept := b.call("env.water_accept :i")
	// One subscription to the caller's descriptor, at scratchAt: userdata, the tag of
	// reading, the descriptor.
	poll := constant(scratchAt+8) + constant(1) + "\x3a\x00\x00" + constant(scratchAt+16) + load(callerAt) + "\x36\x02\x00" +
		b.call(wasiModule+"poll_oneoff iiii:i", constant(scratchAt), constant(scratchAt+64), constant(1), constant(scratchAt+128)) + insDrop
	keep := constant(callerAt) + "\x20\x00\x36\x02\x00"
	functions := []struct{ export, signature, code string }{
		{"", "", at("section")},
		{"_initialize", "", at("initialize")},
		{"watm_init_v1", ":i", at("init") + constant(0)},
		{"watm_dial_v1", "i:i", keep + at("dial") + dial},
		{"watm_accept_v1", "i:i", keep + at("accept") + accept},
		{"watm_ctrlpipe_v1", "i:i", at("ctrlpipe") + constant(0)},
		{"watm_start_v1", ":i", at("start") + poll + at("poll") + constant(0)},
		{"", "", "\x10" + string(leb(uint64(len(b.imports)+7)))}, // calls itself; see recurse
		{"", "", b.leaf},
	}
	var types, imports, declared, exports, code []string
	typeIndex := func(signature string) string {
		types = append(types, typeOf(signature))
		return string(leb(uint64(len(types) - 1)))
	}
	for _, i := range b.imports {
		function, signature, _ := strings.Cut(i, " ")
		module, name, _ := strings.Cut(function, ".")
		imports = append(imports, sized(module)+sized(name)+"\x00"+typeIndex(signature))
	}
	for i, f := range functions {
		declared = append(declared, typeIndex(f.signature))
		if f.export != "" {
			exports = append(exports, sized(f.export)+"\x00"+string(leb(uint64(len(b.imports)+i))))
		}
		code = append(code, sized("\x00"+f.code+insEnd))
	}
	exports = append(exports, sized("memory")+"\x02\x00")
	file := "\x00asm\x01\x00\x00\x00" + sectionOf(1, list(types...)) + sectionOf(2, list(imports...)) + sectionOf(3, list(declared...)) +
		sectionOf(4, list("\x70\x00"+string(leb(uint64(max(b.table, 2)))))) + // a table of functions, which is empty
		sectionOf(5, list("\x00\x02")) + sectionOf(7, list(exports...))
	if stage == "section" {
		file += sectionOf(8, string(leb(uint64(len(b.imports)))))
	}
	file += sectionOf(10, list(code...))
	if len(b.data) > 0 {
		file += sectionOf(11, list("\x00"+constant(dataAt)+insEnd+sized(string(b.data))))
	}
	return []byte(file)
}

// own calls a function of the module's own.
func (b *builder) own(n int) string {
	// The number of imports is not known yet: those of every module come first.
	b.call("env.water_dial_fixed :i")
	b.call("env.water_accept :i")
	b.call(wasiModule + "poll_oneoff iiii:i")
	return "\x10" + string(leb(uint64(len(b.imports)+n)))
}

// recurse calls the function that calls itself, callLeaf the one whose code is leaf.
func (b *builder) recurse() string  { return b.own(7) }
func (b *builder) callLeaf() string { return b.own(8) }

// divisions is code that takes long for its length: so many divisions, each of what the one
// before has left.
func divisions(n int) string {
	return long(-1) + strings.Repeat(long(3)+"\x80", n) + insDrop
}

// fill writes the first MiB of the memory, which has to have as much.
var fill = constant(0) + constant(0) + constant(1<<20) + "\xfc\x0b\x00"

// nan is a constant that no integer is.
var nan = "\x44" + string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(math.NaN())))
