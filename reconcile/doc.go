// Package reconcile keeps the host at what the manifests declare.
//
//	file event --+
//	resync tick -+-> wake -> Load -> Observe -> Diff -> Plan -> execute -> runtime
//	exit --------+           desired  actual    pure            bounded workers, one per subject
//
// One pass (pass.go), with the functions that it goes through:
//
//	source.Source.Read       the manifest directories -> documents
//	desired.Declare, Combine documents + drop-ins + what is applied -> what is desired
//	Observer.List            what is known about every container
//	plan.Next                what is remembered, with the results of actions that ended
//	plan.Diff                what is to be done: Actions, Waits, Held
//	executor.perform         one action -> one call of Containers
//
// Events only wake: a pass rereads everything that may have changed. plan.Diff and plan.Next
// do no I/O, no logging and no mutation; the same functions serve `stead plan`, the daemon
// and the tests. The executor decides nothing.
//
// loop.go goes round; debounce.go says when; apply.go, admin.go and hold.go are what people
// ask for; notices.go and journal.go tell what is new; package view is what people are
// shown, and control lets them ask from another process.
//
// The package knows the manifest language (spec) and reaches the host only through the
// interfaces of runtime.go.
package reconcile
