// Package transport is the W.A.T.E.R. runtime: it carries network connections
// through WebAssembly Transport Modules (WATMs), sandboxed files that say how
// bytes look on the wire.
//
// A [Module] is compiled once and shared. A [Config] says which module to use
// and what it may do. [RuntimeConnDialer] dials and [Listener] accepts
// [RuntimeConn]s, each carried by a module instance of its own:
//
//	caller <-> RuntimeConn <-> [module instance] <-> net.Conn <-> network
//
// A module is untrusted. It sees no file but its own configuration, no
// environment, and no address that its user did not grant; if it fails, its
// connection ends, and nothing is sent without it.
//
// No OS thread is held by a connection, and closing loses nothing: what was
// written before Close still arrives (see [Config.DrainTimeout]).
package transport
