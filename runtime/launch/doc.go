// Package launch starts processes in containers: the sequence of system calls
// from clone to execve, on the parent's and on the child's side.
//
// The main idea: the parent attaches every mount that a container must not be able to undo.
// It does so in a small mount namespace (the nursery), before the child copies that
// namespace from inside its user namespace. The copy locks the mounts and their flags
// (mount_namespaces(7)). The container's root can unmount and remount whatever the child
// mounts after the copy.
//
// The child is a copy of this process, made by a raw clone. It can't run Go code as usual,
// because the other threads of the Go runtime are missing. So the parent prepares the
// child's system calls as a table (calls.go, child.go) and the child works through it in
// a function that neither allocates nor grows its stack.
//
// The package knows no manifests, records or logs. Only the keeper runs containers with it.
package launch
