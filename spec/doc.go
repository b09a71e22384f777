// Package spec is the manifest language: its types, strict decoding with
// positions, defaults, validation, the comparison of two specs, and the JSON
// Schema and reference that are generated from the same types.
//
// It reads no file, knows no kernel and nothing else of stead: bytes go in,
// documents and positioned errors come out.
package spec
