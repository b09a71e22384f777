package filecopy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	goruntime "runtime"
	"time"

	"stead/runtime/job"

	"golang.org/x/sys/unix"
)

// Jobs pack and unpack in child processes that are confined to a root.
type Jobs struct {
	Runner job.Runner
	Root   *os.File
	// IDBase is the host id of the root's id 0, as its mounts show it; 0 if ids are not mapped.
	IDBase  uint32
	Covered []Covered
}

const (
	packKind   = "copy-out"
	unpackKind = "copy-in"
)

// JobKinds are the kinds of jobs for job.Main.
func JobKinds() map[string]job.Func {
	return map[string]job.Func{packKind: runPack, unpackKind: runUnpack}
}

type request struct {
	Path    string `json:"path"`
	Options Options
}

// Pack is Pack of a path in the root, written to out.
func (j Jobs) Pack(ctx context.Context, name string, out *os.File) ([]Note, error) {
	r := j.Runner
	r.Stdout = out
	return j.run(ctx, r, packKind, request{Path: name, Options: Options{Covered: j.Covered}}, nil)
}

// Unpack is Unpack to a path in the root, read from in.
func (j Jobs) Unpack(ctx context.Context, name string, in *os.File, o Options) ([]Note, error) {
	o.Covered = j.Covered
	return j.run(ctx, j.Runner, unpackKind, request{name, o}, in)
}

func (j Jobs) run(ctx context.Context, r job.Runner, kind string, q request, stdin *os.File) (n []Note, err error) {
	r.Files, r.IDBase = []*os.File{j.Root}, j.IDBase
	b, err := r.Run(ctx, kind, q, stdin, nil)
	if err != nil {
		return nil, err
	}
	var a answer
	err = json.Unmarshal(b, &a)
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	return a.Notes, err
}

// answer is the result of a job. An error comes with what was noted before it.
type answer struct {
	Notes []Note `json:"notes"`
	Error string `json:"error,omitempty"`
}

func runPack(ctx context.Context, body json.RawMessage, _ func(any)) (any, error) {
	return confined(body, func(root int, q *request) ([]Note, error) {
		out := bufio.NewWriterSize(os.Stdout, 256<<10)
		n, err := Pack(ctx, root, q.Path, q.Options.Covered, out)
		if err == nil {
			err = out.Flush()
		}
		return n, err
	})
}

func runUnpack(ctx context.Context, body json.RawMessage, _ func(any)) (any, error) {
	return confined(body, func(root int, q *request) ([]Note, error) {
		// Who writes the stream may stop, and the read can't be interrupted.
		r, w := io.Pipe()
		go func() {
			_, err := io.Copy(w, os.Stdin)
			w.CloseWithError(err)
		}()
		defer context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })()
		return Unpack(ctx, root, q.Path, r, q.Options)
	})
}

// confined calls work on a thread that has the root and nothing else.
func confined(body json.RawMessage, work func(root int, q *request) ([]Note, error)) (any, error) {
	var q request
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, err
	}
	root := job.FirstFile
	unix.CloseOnExec(root)
	if err := confine(root); err != nil {
		return nil, err
	}
	var a answer
	done := make(chan error)
	go func() { // the thread ends with the goroutine
		goruntime.LockOSThread()
		err := dropCapabilities()
		if err == nil {
			n, failed := work(root, &q)
			if a.Notes = n; failed != nil {
				a.Error = failed.Error()
			}
		}
		done <- err
	}()
	err := <-done
	return a, err
}

// confine makes the root that of this process, of all its threads. From here on no file that the
// program might load by itself is one of the host, or of the container: what the standard
// library would look for is set before.
func confine(root int) error {
	time.Local = time.UTC                                                // else /etc/localtime is read there
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil { // the container has the same ids
		return os.NewSyscallError("prctl", err)
	}
	if err := unix.Fchdir(root); err != nil {
		return os.NewSyscallError("chdir to the root", err)
	}
	return os.NewSyscallError("chroot", unix.Chroot("."))
}

// dropCapabilities takes all capabilities away from this thread that copying files does not need.
func dropCapabilities() error {
	keep := uint64(1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID)
	keep |= 1 << unix.CAP_SETFCAP
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		bits := uint32(keep >> (32 * i))
		data[i] = unix.CapUserData{Effective: bits, Permitted: bits}
	}
	return os.NewSyscallError("capset", unix.Capset(&header, &data[0]))
}
