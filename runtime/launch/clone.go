//go:build amd64 || arm64

package launch

// rawClone is clone3(2) with args of the given size, which name a stack. In
// the parent it returns the pid or -errno. In the child it makes tls the thread
// pointer, which Go code reads, unless it is 0, and calls runChild(t).
//
//go:noescape
func rawClone(args *cloneArgs, size, tls uintptr, t *table) uintptr

// rawVfork is clone(2) with flags and no stack of its own. It returns twice
// when flags has CLONE_VM|CLONE_VFORK: 0 in the child, which must never return
// from its caller, then the pid in the parent. Errors are -errno.
func rawVfork(flags uintptr) uintptr
