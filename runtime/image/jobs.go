package image

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stead/runtime/fault"
	"stead/runtime/image/registry"
	"stead/runtime/image/unpack"
	"stead/runtime/job"

	"golang.org/x/sys/unix"
)

// Jobs adds images in child processes. It is what everybody but the child uses.
type Jobs struct {
	*Store
	Runner     job.Runner
	Registries map[string]registry.Settings // by host
}

const (
	importKind = "image-import"
	pullKind   = "image-pull"
)

// JobKinds are the kinds of jobs for job.Main.
func JobKinds() map[string]job.Func {
	return map[string]job.Func{importKind: runImport, pullKind: runPull}
}

// jobRequest is what the child is asked.
type jobRequest struct {
	Dir      string  `json:"dir"` // of the store
	FaultDir string  `json:"faultDir,omitempty"`
	Name     string  `json:"name"` // or a reference
	Source   string  `json:"source,omitempty"`
	Options  Options `json:"options"`

	Registries map[string]registry.Settings `json:"registries,omitempty"`
}

// jobResult is what it answers.
type jobResult struct {
	Name string `json:"name"`
}

// faultDir is where a child built with the tag fault looks for the point at which it dies.
var faultDir = os.Getenv("STEAD_TEST_FAULT_DIR")

// Import is Store.Import in a child process. stdin is read for the source "-".
func (j Jobs) Import(ctx context.Context, name, source string, stdin *os.File, o Options) (*Image, error) {
	if source != "-" {
		var err error
		if source, err = filepath.Abs(source); err != nil {
			return nil, err
		}
		stdin = nil
	}
	return j.run(ctx, importKind, jobRequest{Name: name, Source: source, Options: o}, stdin, o.Progress)
}

// Pull is Store.Pull in a child process.
func (j Jobs) Pull(ctx context.Context, reference string, o Options) (*Image, error) {
	return j.run(ctx, pullKind, jobRequest{Name: reference, Options: o, Registries: j.Registries}, nil, o.Progress)
}

// run runs a job and returns the image that it added.
func (j Jobs) run(ctx context.Context, kind string, q jobRequest, stdin *os.File, progress func(Progress)) (*Image, error) {
	q.Dir, q.FaultDir = j.dir, faultDir
	b, err := j.Runner.Run(ctx, kind, q, stdin, func(raw json.RawMessage) {
		var p Progress
		if progress != nil && json.Unmarshal(raw, &p) == nil {
			progress(p)
		}
	})
	if err != nil {
		return nil, errors.Join(fromJob(err), j.Recover(context.WithoutCancel(ctx))) // it may have been killed
	}
	var r jobResult
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	return j.Lookup(r.Name)
}

func runImport(ctx context.Context, request json.RawMessage, report func(any)) (any, error) {
	q, s, err := begin(request, report)
	if err != nil {
		return nil, err
	}
	m, err := s.Import(ctx, q.Name, q.Source, os.Stdin, q.Options)
	if err != nil {
		return nil, toJob(err)
	}
	return jobResult{m.Name}, nil
}

func runPull(ctx context.Context, request json.RawMessage, report func(any)) (any, error) {
	q, s, err := begin(request, report)
	if err != nil {
		return nil, err
	}
	m, err := s.Pull(ctx, q.Name, &registry.Client{Registries: q.Registries}, q.Options)
	if err != nil {
		return nil, toJob(err)
	}
	return jobResult{m.Name}, nil
}

func begin(request json.RawMessage, report func(any)) (q jobRequest, s *Store, err error) {
	if err = json.Unmarshal(request, &q); err != nil {
		return q, nil, err
	}
	fault.Dir(q.FaultDir)
	q.Options.Progress = func(p Progress) { report(p) }
	return q, Open(q.Dir), nil
}

// codes are the errors that keep their identity on the way from a job.
var codes = map[string]error{
	"not-found": ErrNotFound, "not-in-registry": registry.ErrNotFound, "busy": ErrBusy, "no-space": unix.ENOSPC, "missing": os.ErrNotExist,
}

// codedError is an error in the child with its code.
type codedError struct {
	error
	code string
}

func (e *codedError) JobCode() string { return e.code }
func (e *codedError) Unwrap() error   { return e.error }

func toJob(err error) error {
	var limit *unpack.LimitError
	if errors.As(err, &limit) {
		return &codedError{err, "limit"}
	}
	var later *registry.LaterError
	if errors.As(err, &later) {
		return &codedError{err, laterCode + later.After.String()}
	}
	var denied *registry.DeniedError
	if errors.As(err, &denied) {
		return &codedError{err, "denied"}
	}
	for code, sentinel := range codes {
		if errors.Is(err, sentinel) {
			return &codedError{err, code}
		}
	}
	return err
}

// jobError is an error that came from a child, with the sentinel that it wraps.
type jobError struct {
	error
	sentinel error
}

func (e *jobError) Unwrap() error { return e.sentinel }

// laterCode begins the code of a registry.LaterError; the time follows.
const laterCode = "later "

// laterError is an error that came from a child, and that says when to try again.
type laterError struct {
	error
	after time.Duration
}

func (e *laterError) RetryAfter() time.Duration { return e.after }

func fromJob(err error) error {
	var e *job.Error
	if errors.As(err, &e) && strings.HasPrefix(e.Code, laterCode) {
		after, _ := time.ParseDuration(strings.TrimPrefix(e.Code, laterCode))
		return &laterError{e, after}
	}
	if errors.As(err, &e) && codes[e.Code] != nil {
		return &jobError{e, codes[e.Code]}
	}
	return err
}
