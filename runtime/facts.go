package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"stead/runtime/atomicfile"
	"stead/runtime/record"
	"stead/runtime/status"
	"stead/spec"
)

// facts is what is durable about a container: STATE/containers/NAME/container.json.
// Fields are only ever added; old files stay readable.
type facts struct {
	Manifest  *spec.Container    `json:"manifest"` // as applied, normalised
	From      status.Origin      `json:"from"`
	CreatedAt time.Time          `json:"createdAt"`
	IDBase    uint32             `json:"idBase,omitempty"` // of its 65,536 host ids; 0 before its first start with a user namespace
	StoppedAt *time.Time         `json:"stoppedAt,omitempty"`
	Unapplied []status.Unapplied `json:"unapplied,omitempty"`
	LastRun   *lastRun           `json:"lastRun,omitempty"`
}

// lastRun lets a container that must not run twice (restart policies never and
// on-failure) be known as run after a reboot, too.
type lastRun struct {
	BootID     string       `json:"bootId"`
	StartedAt  time.Time    `json:"startedAt"`
	FinishedAt time.Time    `json:"finishedAt,omitzero"`
	Exit       *status.Exit `json:"exit,omitempty"` // nil while it runs: if the host died then, nobody knows
}

// began says whether there was such a run. One that was announced on this boot
// and has no boot record was never launched: the daemon died in between.
func (l *lastRun) began() bool {
	return l != nil && (l.Exit != nil || l.BootID != record.BootID())
}

const factsFile = "container.json"

func readFacts(dir string) (*facts, error) {
	b, err := os.ReadFile(filepath.Join(dir, factsFile))
	if err != nil {
		return nil, fmt.Errorf("read facts: %w", err)
	}
	f := &facts{}
	if err := json.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("read facts %s: %w", filepath.Join(dir, factsFile), err)
	}
	if f.Manifest == nil {
		return nil, fmt.Errorf("read facts %s: holds no manifest", filepath.Join(dir, factsFile))
	}
	f.Manifest.Default()
	return f, nil
}

// write replaces the file as a whole.
func (f *facts) write(dir string) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encode facts: %w", err)
	}
	return atomicfile.Write(filepath.Join(dir, factsFile), append(b, '\n'))
}

// writeDelay is how long the end of a run may wait to be put on the disk.
const writeDelay = time.Second

// writeLater puts a container's facts on the disk soon, together with those of
// others. What memory knows better than the disk until then is the end of a run:
// it is in the boot record as well, so only a host that dies within this second
// forgets it, and says that the end is unknown.
func (r *Runtime) writeLater(c *container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unwritten == nil {
		r.unwritten = map[*container]bool{}
		r.watcher.Go(func() {
			select {
			case <-time.After(writeDelay):
			case <-r.ctx.Done():
			}
			r.writeUnwritten()
		})
	}
	r.unwritten[c] = true
}

func (r *Runtime) writeUnwritten() {
	r.mu.Lock()
	all := r.unwritten
	r.unwritten = nil
	r.mu.Unlock()
	for c := range all {
		if err := r.save(c, func(*facts) {}); err != nil && !errors.Is(err, ErrMissing) { // removed meanwhile
			r.Log.Error("record the end", "container", c.name, "error", err)
		}
	}
}
