package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"stead/runtime/backup"
	"stead/runtime/fault"
	"stead/runtime/job"

	"golang.org/x/sys/unix"
)

// Backups and restores run in child processes (package job): they take long, use memory, and read
// what is hostile. They take no lock of the state directory.

const (
	backupKind  = "backup"
	restoreKind = "restore"
)

// BackupJobKinds are the kinds of jobs for job.Main.
func BackupJobKinds() map[string]job.Func {
	return map[string]job.Func{backupKind: runBackup, restoreKind: runUnpack}
}

// jobFaultDir is where a child built with the tag fault looks for the point at which it dies.
var jobFaultDir = os.Getenv("STEAD_TEST_FAULT_DIR")

// BackupJobs runs them.
type BackupJobs struct {
	Runner   job.Runner
	StateDir string
}

// BackupProgress is what a job reports.
type BackupProgress struct {
	Bytes int64 `json:"bytes"`
}

type backupJob struct {
	Request  *backup.Request
	StateDir string
	FaultDir string
}

// check returns an error if a container writes volumes of the backup that does not stand still.
func (j *backupJob) check() error {
	var volumes []string
	for _, t := range j.Request.Index.Trees {
		if t.Volume != "" {
			volumes = append(volumes, t.Volume)
		}
	}
	if len(volumes) == 0 || j.Request.Unfrozen {
		return nil
	}
	writers, err := writersOf(j.StateDir, j.Request.RunDir, volumes)
	for _, id := range writers {
		if !slices.ContainsFunc(j.Request.Runs, func(run backup.Run) bool { return run.ID == id }) {
			return fmt.Errorf("%s has started meanwhile, and writes a volume that is copied; run the backup again", id)
		}
	}
	return err
}

// Backup makes an archive in a child process. stdout is written if the request has no output.
func (j BackupJobs) Backup(ctx context.Context, q *backup.Request, stdout *os.File, progress func(BackupProgress)) (*backup.Result, error) {
	runner := j.Runner
	if q.Output == "" {
		runner.Stdout = stdout
	}
	b, err := runner.Run(ctx, backupKind, backupJob{q, j.StateDir, jobFaultDir}, nil, progressOf(progress))
	if err != nil {
		return nil, fromBackupJob(err)
	}
	r := &backup.Result{}
	return r, json.Unmarshal(b, r)
}

func progressOf(progress func(BackupProgress)) func(json.RawMessage) {
	return func(raw json.RawMessage) {
		var p BackupProgress
		if progress != nil && json.Unmarshal(raw, &p) == nil {
			progress(p)
		}
	}
}

// reporter reports every so many bytes.
func reporter(report func(any)) func(int64) {
	last := int64(0)
	return func(n int64) {
		if n-last >= 4<<20 {
			last = n
			report(BackupProgress{n})
		}
	}
}

func runBackup(ctx context.Context, request json.RawMessage, report func(any)) (any, error) {
	var q backupJob
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, err
	}
	fault.Dir(q.FaultDir)
	q.Request.Check = q.check
	return backup.Write(ctx, q.Request, reporter(report))
}

// UnpackRequest is what to restore.
type UnpackRequest struct {
	StateDir string
	Staging  string // directory of the Staging
	File     string // "" for stdin
	As       string // "" for the name in the archive
	Replace  bool
	Limits   backup.Limits
	FaultDir string
}

// Unpack verifies an archive and unpacks it in a staging directory, in a child process.
func (j BackupJobs) Unpack(ctx context.Context, q UnpackRequest, stdin *os.File, progress func(BackupProgress)) error {
	if q.File != "" {
		stdin = nil
	}
	q.FaultDir = jobFaultDir
	_, err := j.Runner.Run(ctx, restoreKind, q, stdin, progressOf(progress))
	return fromBackupJob(err)
}

func runUnpack(ctx context.Context, request json.RawMessage, report func(any)) (any, error) {
	var q UnpackRequest
	if err := json.Unmarshal(request, &q); err != nil {
		return nil, err
	}
	fault.Dir(q.FaultDir)
	s, err := backup.OpenStaging(q.Staging)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	in := os.Stdin
	if q.File != "" {
		if in, err = os.Open(q.File); err != nil {
			return nil, err
		}
		defer in.Close()
	}
	return struct{}{}, codedBackup(q.unpack(ctx, s, &reading{in, reporter(report), 0}))
}

// reading reports how much was read.
type reading struct {
	io.Reader
	report func(int64)
	n      int64
}

func (r *reading) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.n += int64(n)
	r.report(r.n)
	return n, err
}

func (q *UnpackRequest) unpack(ctx context.Context, s *backup.Staging, in io.Reader) error {
	trees := s.Trees()
	if err := os.Mkdir(trees, 0o700); err != nil {
		return err
	}
	v := &backup.Staged{}
	info, err := backup.Unpack(ctx, in, trees, q.Limits, func(x *backup.Index) (map[string]string, error) {
		var err error
		if v.Places, err = q.accept(x); err != nil {
			return nil, err
		}
		elsewhere := map[string]string{}
		for _, p := range v.Places {
			elsewhere[p.Tree.Name] = p.Beside
		}
		return elsewhere, s.SetPlaces(v.Places)
	})
	if err != nil {
		return err
	}
	fault.Point("restore-verified")
	v.Index, v.Notes, v.Manifest, v.Applied, v.DropIns = info.Index, info.Notes, info.Index.Manifest, info.Index.Applied, info.Index.DropIns
	return s.SetStaged(v)
}

// KnownError is returned for a container that is there and whose data is not to be replaced.
type KnownError struct{ Name string }

func (e *KnownError) Error() string {
	return fmt.Sprintf("there is a container %s; --replace puts the data of the backup in place of its own, which goes to removed/, and --as NAME makes another container", e.Name)
}

// backupCodes are the errors that keep their identity on the way from a job.
var backupCodes = map[string]error{
	"damaged": backup.ErrDamaged, "foreign": backup.ErrForeign, "newer": backup.ErrNewer, "no-space": unix.ENOSPC, "missing": os.ErrNotExist,
}

// codedBackupError is an error in the child with its code.
type codedBackupError struct {
	error
	code string
}

func (e *codedBackupError) JobCode() string { return e.code }
func (e *codedBackupError) Unwrap() error   { return e.error }

func codedBackup(err error) error {
	for code, sentinel := range backupCodes {
		if errors.Is(err, sentinel) {
			return &codedBackupError{err, code}
		}
	}
	return err
}

// backupError is an error that came from a child, with the sentinel that it wraps.
type backupError struct {
	error
	sentinel error
}

func (e *backupError) Unwrap() error { return e.sentinel }

func fromBackupJob(err error) error {
	var e *job.Error
	if errors.As(err, &e) && backupCodes[e.Code] != nil {
		return &backupError{e, backupCodes[e.Code]}
	}
	return err
}
