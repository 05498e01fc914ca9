// Package ptproc runs pluggable transports as tor runs them: it sets the variables that
// tor sets, reads the lines up to the end of the negotiation, and ends the process as tor
// does. "pt-spec" is the pluggable transport specification, version 1.
package ptproc
