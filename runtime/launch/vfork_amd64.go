package launch

// rawVfork is clone(2) with flags and no stack of its own. It returns twice
// when flags has CLONE_VM|CLONE_VFORK: 0 in the child, which must never return
// from its caller, then the pid in the parent. Errors are -errno.
//
//go:noescape
func rawVfork(flags uintptr) uintptr
