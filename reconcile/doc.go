// Package reconcile keeps the host at what the manifests declare.
//
//	file event ──┐
//	resync tick ─┼─► wake ─► Load ─► Observe ─► Diff ─► Plan ─► apply ─► Runtime
//	exit ────────┘           desired   actual    pure            bounded workers, one per container
//
// Events only wake: a pass rereads everything that may have changed. Diff does
// no I/O, no logging and no mutation; the same function serves `stead plan`,
// the daemon and the tests. The executor carries no decision logic.
//
// It knows the manifest language (spec) and reaches the kernel only through
// the interface Runtime.
package reconcile
