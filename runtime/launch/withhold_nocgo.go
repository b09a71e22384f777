//go:build !cgo

package launch

const canWithhold = true
