// This program measures another WATM runtime library with the same code that
// measures ours. It is a module of its own so that the product does not depend
// on that library.
module waterproxy/bench/peer

go 1.26.0

require (
	github.com/refraction-networking/water v0.7.1-alpha
	waterproxy v0.0.0-00010101000000-000000000000
)

require (
	github.com/blang/vfs v1.0.0 // indirect
	github.com/gaukas/wazerofs v0.1.0 // indirect
	github.com/tetratelabs/wazero v1.12.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

// The library needs this fork: it passes connections to modules with functions
// that wazero itself does not have. Its own go.mod says the same, but a replace
// counts only in the main module. This is the only module of the project that
// may have one.
replace github.com/tetratelabs/wazero => github.com/refraction-networking/wazero v1.7.3-w

// The measuring code, from the same tree.
replace waterproxy => ../..
