//go:build !weak

// Package weak disables single defences in a program that was built with the tag `weak`, so
// that the tests of attacks can be seen to fail. In any other build all defences hold: the code
// that disables them is in files with that tag, beside what they weaken.
package weak

// Built reports whether this is a build with the tag.
const Built = false

// Dir sets the directory of the file; see on.go.
func Dir(string) {}
