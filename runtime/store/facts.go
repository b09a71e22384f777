package store

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"stead/runtime/atomicfile"
	"stead/runtime/record"
	"stead/runtime/status"
	"stead/spec"
)

// Facts are the durable facts of a container: STATE/containers/NAME/container.json.
// Fields are only ever added; old files stay readable.
type Facts struct {
	Manifest  *spec.Container    `json:"manifest"` // as applied, normalised
	From      status.Origin      `json:"from"`
	CreatedAt time.Time          `json:"createdAt"`
	IDBase    uint32             `json:"idBase,omitempty"` // of its 65,536 host ids; 0 before its first start with a user namespace
	StoppedAt *time.Time         `json:"stoppedAt,omitempty"`
	Unapplied []status.Unapplied `json:"unapplied,omitempty"`
	LastRun   *LastRun           `json:"lastRun,omitempty"`
	// Image is the image that the private files in upper/ belong to; nil if they are those of a
	// host root, or there are none. It stays while the root is a directory of the host.
	Image *Image `json:"image,omitempty"`
}

// Image is the image of a container's root.
type Image struct {
	Reference string `json:"reference"` // as in rootfs.image
	Digest    string `json:"digest"`
}

// Same reports whether both are the same image, or both none.
func (i *Image) Same(o *Image) bool {
	if i == nil || o == nil {
		return i == o
	}
	return i.Digest == o.Digest
}

// LastRun records that a container ran, so that one which must not run twice (restart
// policies never and on-failure) does not run again after a reboot.
type LastRun struct {
	BootID     string       `json:"bootId"`
	StartedAt  time.Time    `json:"startedAt"`
	FinishedAt time.Time    `json:"finishedAt,omitzero"`
	Exit       *status.Exit `json:"exit,omitempty"` // nil while it runs: if the host died then, nobody knows
}

// Began reports whether there was such a run. A run that was saved on this boot and has no
// boot record was never launched: the daemon died in between.
func (l *LastRun) Began() bool {
	return l != nil && (l.Exit != nil || l.BootID != record.BootID())
}

// FactsFile has the facts in the directory of a container. It is replaced whenever they change.
const FactsFile = "container.json"

// ReadFacts reads the facts in a container's directory.
func ReadFacts(dir string) (*Facts, error) { return readFacts(filepath.Join(dir, FactsFile)) }

func readFacts(file string) (*Facts, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read facts: %w", err)
	}
	f := &Facts{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("read facts %s: %w", file, err)
	}
	if f.Manifest == nil {
		return nil, fmt.Errorf("read facts %s: holds no manifest", file)
	}
	f.Manifest.Default()
	return f, nil
}

// Write writes the facts into a container's directory.
func (f *Facts) Write(dir string) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encode facts: %w", err)
	}
	return atomicfile.Write(filepath.Join(dir, FactsFile), append(b, '\n'))
}
