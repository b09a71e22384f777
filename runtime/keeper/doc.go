// Package keeper is the process that holds a host's containers: it clones
// them, is their parent, records how they ended and drains their output into
// log files. One runs for each state directory. It knows no manifest and makes
// no decision, so it outlives the daemon and hardly ever changes; if it dies,
// containers run on and the next one adopts them.
//
// The other half of the package is the client that the runtime and the verbs
// use. They speak over a root-only SOCK_SEQPACKET socket: one JSON message a
// packet, larger bodies in a memfd (protocol.go).
package keeper
