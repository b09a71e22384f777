// Package keeper contains the process that holds a host's containers: it clones
// them, is their parent, records how they ended and copies their output into
// log files. One keeper runs per state directory. It knows no manifests and makes
// no decisions, so it outlives the daemon and rarely changes. If it dies, the
// containers run on and the next keeper adopts them.
//
// The package also contains the client that the runtime and the commands use. They talk over
// a SOCK_SEQPACKET socket that only root may use: one JSON message per packet, larger bodies
// in a memfd (protocol.go).
package keeper
