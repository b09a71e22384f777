package spec

import (
	"crypto/sha256"
	"encoding/json"
)

// Fingerprint identifies what a normalised manifest says: equal ones are the same manifest.
// The zero value is that of none.
type Fingerprint [16]byte

// Fingerprint computes c's fingerprint, in some microseconds.
func (c *Container) Fingerprint() Fingerprint {
	text, err := json.Marshal(c)
	if err != nil {
		return Fingerprint{}
	}
	sum := sha256.Sum256(text)
	return Fingerprint(sum[:16])
}
