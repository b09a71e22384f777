//go:build !weak

// Package weak takes single defences away from a program that was built with the
// tag `weak`, so that a test of an attack can be seen to fail: what such a test
// proves in any other build is that the defence holds. In any other build nothing
// is ever weak, and the compiler leaves these branches out.
package weak

// Built says whether this is a build with the tag.
const Built = false

// Dir says where the file is; see on.go.
func Dir(string) {}

// Is says whether the defence of that name was taken away.
func Is(string) bool { return false }
