// Package measure holds the measurements themselves: what is sent over a path,
// what is timed, and what counts as a failure.
//
// A path is anything that turns a dial into a connection that ends at the
// [Origin]: plain TCP, a chain of relays, a pair of pluggable transports, or a
// library's dialer inside this process. Both ends of a measured connection are
// in this process, so a test holds them as one [Link] and can time from the
// first byte written at one end to the last byte read at the other with one
// clock.
//
// The package depends on nothing that it measures, so that two libraries that
// cannot be linked into one executable can be measured by the same code.
package measure
