//go:build amd64 || arm64

package launch

// rawClone calls clone3(2) with args of the given size, which must have a stack. In the
// parent it returns the pid or -errno. In the child it sets the thread pointer, which Go
// code reads, to tls unless tls is 0, and calls runChild(t).
//
//go:noescape
func rawClone(args *cloneArgs, size, tls uintptr, t *table) uintptr

// rawVfork calls clone(2) with flags, which must have CLONE_VM|CLONE_VFORK, and no new stack.
// It returns twice: 0 in the child, which must never return from its caller, then the
// pid in the parent. An error is -errno.
func rawVfork(flags uintptr) uintptr
