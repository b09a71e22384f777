//go:build cgo

package launch

// A program with cgo has threads of the C library, which register a place in
// their stacks with the kernel (rseq(2)). A child inherits the registration and
// is killed if it does not have the place. The released program has no cgo; its
// tests under the race detector do, and their instrumented code wants a real thread.
const canExcludeFromFork = false
