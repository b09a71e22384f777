// Package spec defines the manifest language: its types, strict decoding with
// positions, defaults, validation, the comparison of two manifests, and the JSON
// Schema and reference that are generated from the same types.
//
// The package turns bytes into documents and errors with positions. It reads no files
// and must not know the kernel or any other package of stead.
package spec
