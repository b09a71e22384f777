//go:build !cgo

package launch

const canExcludeFromFork = true
