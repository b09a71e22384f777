//go:build cgo

package launch

// With cgo the C library registers a part of each thread's stack with the kernel (rseq(2)).
// A child inherits the registration and is killed if it lacks that memory. The
// released program has no cgo. Tests under the race detector have it, and their
// instrumented code needs a real thread.
const canExcludeFromFork = false
