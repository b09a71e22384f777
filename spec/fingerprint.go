package spec

import (
	"crypto/sha256"
	"encoding/json"
)

// Fingerprint identifies the content of a normalised manifest: manifests with equal
// fingerprints are equal. The zero value belongs to no manifest.
type Fingerprint [16]byte

// Fingerprint computes the fingerprint of c, in a few microseconds.
func (c *Container) Fingerprint() Fingerprint {
	text, err := json.Marshal(c)
	if err != nil {
		return Fingerprint{}
	}
	sum := sha256.Sum256(text)
	return Fingerprint(sum[:16])
}
