// Package launch starts processes in containers: the sequence of system calls
// from clone to execve, on the parent's and on the child's side.
//
// The one idea: whatever a container must not be able to undo is attached by
// the parent, in a small mount namespace of its own (the nursery), before the
// child copies that namespace from inside its user namespace. That copy locks
// the mounts and their flags (mount_namespaces(7)). What the child mounts
// itself after the copy, its root can unmount and remount.
//
// The child is a plain copy of this process, made by a raw clone. It can't run
// Go: the Go runtime's other threads are not there. So the parent prepares the
// child's system calls as a table (calls.go, child.go) and the child works
// through it in a function that neither allocates nor grows its stack.
//
// It knows no manifest, no record and no log; the keeper is its only user.
package launch
