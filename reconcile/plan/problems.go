package plan

import (
	"time"

	"stead/runtime/status"
)

// Problems are errors and notes of manifests. Diff does not use them; they are shown to people.
type Problems struct {
	Invalid []Invalid     // documents and files that gave no container, by name
	Broken  []FileErrors  // every error of the manifests, by file
	Writing []WritingFile // files that are not read yet
	Notes   []string      // on what is valid and probably a mistake
}

// Invalid is a manifest that never gave a container.
type Invalid struct {
	Name string // of the document where that is readable and not in use, otherwise the file's path
	From status.Origin
	Errs []error
}

// FileErrors are the errors of one file.
type FileErrors struct {
	File string
	Errs []error
}

// WritingFile is a file that another process has open for writing.
type WritingFile struct {
	Path   string
	Writer string    // the file that is open: Path itself, or a drop-in for a container in it
	Since  time.Time // the writer was first seen
	DropIn bool
	Of     string // of a drop-in: its container, "" for all
	// New is set for a manifest that was never read and for which no container is kept.
	New bool
}

// WaitingError says that a file is not read because somebody is still writing it.
type WaitingError struct {
	File  string
	Since time.Time
}

func (e *WaitingError) Error() string {
	return e.File + ": somebody has it open for writing; waiting for its writer"
}

// ErrorLines returns the errors of the manifests, a line each.
func (d *Desired) ErrorLines() []string {
	var lines []string
	for _, dir := range d.Dirs {
		if dir.Matters {
			lines = append(lines, dir.Path+": "+dir.Err.Error())
		}
	}
	for _, f := range d.Broken {
		for _, err := range f.Errs {
			lines = append(lines, err.Error())
		}
	}
	return lines
}
