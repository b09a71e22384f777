//go:build !fault

// Package fault lets a test kill processes between any two steps. A program
// built with the tag `fault` looks at each point for a file that the test laid
// out; in any other build a point is nothing.
package fault

// Dir says where the file is; see on.go.
func Dir(string) {}

// Point is a place between two steps.
func Point(string) {}
