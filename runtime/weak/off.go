//go:build !weak

// Package weak takes single defences away from a program that was built with the
// tag `weak`, so that a test of an attack can be seen to fail: what such a test
// proves in any other build is that the defence holds. What takes them away is in
// files of its own with that tag, beside what they weaken; no other build has it.
package weak

// Built says whether this is a build with the tag.
const Built = false

// Dir says where the file is; see on.go.
func Dir(string) {}
