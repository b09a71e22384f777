// Package reconcile keeps the host at what the manifests declare.
//
//	file event ──┐
//	resync tick ─┼─► wake ─► Load ─► Observe ─► Diff ─► Plan ─► apply ─► Runtime
//	exit ────────┘           desired   actual    pure            bounded workers, one per container
//
// The files follow that path: source reads the directories; declared.go sorts
// out what they say, desired.go holds it against what runs; diff.go, policy.go
// and removal.go make the plan of plan.go, executor.go carries it out; loop.go
// and pass.go go round; apply.go and do.go are what people ask for, status.go
// what they are shown, and control lets them do so from another process.
//
// Events only wake: a pass rereads everything that may have changed. Diff does
// no I/O, no logging and no mutation; the same function serves `stead plan`,
// the daemon and the tests. The executor carries no decision logic.
//
// It knows the manifest language (spec) and reaches the kernel only through
// the interface Runtime.
package reconcile
