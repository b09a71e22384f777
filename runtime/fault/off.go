//go:build !fault

// Package fault lets a test kill processes between two steps. A program built with the tag
// `fault` checks at each point for a file from the test. In any other build a point does
// nothing.
package fault

// Dir sets the directory of the file; see on.go.
func Dir(string) {}

// Point marks a place between two steps.
func Point(string) {}
