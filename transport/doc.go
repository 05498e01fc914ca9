// Package transport is the W.A.T.E.R. runtime: it carries network connections
// through WebAssembly Transport Modules (WATMs), sandboxed files that say how
// bytes look on the wire.
//
// A [Module] is compiled once and shared. A [Config] names the module to use
// and what it may do. A [RuntimeDialer] dials [RuntimeDialerConn]s, which share
// one instance of a module, or a few:
//
//	caller <-> RuntimeDialerConn <-> [        ] <-> net.Conn <-> network
//	caller <-> RuntimeDialerConn <-> [instance] <-> net.Conn <-> network
//	caller <-> RuntimeDialerConn <-> [        ] <-> net.Conn <-> network
//
// Modules that cannot do that, all of the published v0 and v1 ABIs among them,
// carry one connection in each instance: a [RuntimeConnDialer] dials
// [RuntimeConn]s. [NewDialer] takes what the module offers, and so does a
// [Listener], which accepts connections. What they return is a [Conn] in any
// case.
//
// A [ReloadableDialer] and a Listener can be given another configuration, with a new
// version of the module, while connections are up: those finish on the old one.
//
// A module is untrusted. It sees no file but its own configuration, no
// environment, and no address that its user did not grant; if it fails, its
// connection ends, and nothing is sent without it.
//
// No OS thread is held by a connection, and closing loses nothing: what was
// written before Close still arrives (see [Config.DrainTimeout]).
package transport
