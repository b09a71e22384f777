// Package job runs work that takes long, such as a pull, in a child process of its own: it has
// its own cgroup, can be killed, and frees all its memory when it ends. It knows nothing of what
// the work is.
//
// Parent and child speak over two pipes. The parent writes the request, and keeps that pipe
// open: when it ends, the parent has died or wants the job to end. The child writes JSON lines
// (message), the last of which has the result or the error.
package job

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/sealed"

	"golang.org/x/sys/unix"
)

// Argv0 is the name under which this program runs a job.
const Argv0 = "stead-job"

// grace is how long a job has to clean up when it shall end.
const grace = 10 * time.Second

// message is one line from the child.
type message struct {
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// Error is an error of a job, as it came over the pipe.
type Error struct {
	Code    string `json:"code,omitempty"` // says what callers branch on; each kind of job has its own
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Coder is an error with a code for Error.Code.
type Coder interface{ JobCode() string }

// Runner starts jobs.
type Runner struct {
	// Host has the cgroups; nil leaves jobs in the cgroup of their parent.
	Host *cgroup.Host
	// Stdout is what the job writes to stdout; nil for nothing.
	Stdout *os.File
	// Memory is the most that the job may use, bytes; 0 means DefaultMemory. It needs Host.
	Memory int64
	// Files are further descriptors of the job, FirstFile and so on.
	Files []*os.File
	// IDBase is the host id of the job's id 0, of as many as a container has; 0 leaves the job in
	// the user namespace of its parent.
	IDBase uint32
}

// DefaultMemory is several times what the jobs of stead need: one that takes more has met an archive
// that is made to take it, and must not take it from the containers.
const DefaultMemory = 1 << 30

// FirstFile is the number of the first of Runner.Files in the job.
const FirstFile = 5

// maxAbandoned is how many jobs of this process may be abandoned, since they don't even die of
// SIGKILL: a system call of theirs waits for a file system that does not answer. More are refused.
const maxAbandoned = 4

var abandoned atomic.Int64

// errStuck is returned for a job that was abandoned.
var errStuck = errors.New("the job does not end, not even after SIGKILL: a file system that it uses does not answer")

// groupPrefix begins the names of the cgroups of jobs: _job-PID-N, of the parent. No container's
// name has a '_'.
const groupPrefix = "_job-"

var count atomic.Int64

// Run runs a job and returns its result. progress is called for each report of the job; it may
// be nil. The job reads stdin, which may be nil. If ctx ends, so does the job, and Run returns
// when it is gone, or when it is clear that it can't be killed: then it runs no more code of its own.
func (r Runner) Run(ctx context.Context, kind string, request any, stdin *os.File, progress func(json.RawMessage)) (result json.RawMessage, err error) {
	if n := abandoned.Load(); n >= maxAbandoned {
		return nil, fmt.Errorf("start job: %d jobs before it do not end, not even after SIGKILL: a file system that they use does not answer", n)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode job: %w", err)
	}
	p, err := r.start(kind, stdin)
	if err != nil {
		return nil, fmt.Errorf("start job: %w", err)
	}
	defer func() {
		if !p.close() {
			result, err = nil, errStuck
		}
	}()
	if r.Host != nil {
		Sweep(r.Host)
		p.group = r.Host.Group(fmt.Sprintf("%s%d-%d", groupPrefix, os.Getpid(), count.Add(1)))
		limits := cgroup.NoLimits()
		p.memory = cmp.Or(r.Memory, DefaultMemory)
		limits.Memory = p.memory
		if _, err := p.group.Create(limits); err != nil { // a kernel without the controller runs it without the limit
			return nil, fmt.Errorf("start job: %w", err)
		}
		if err := p.group.Add([]int{p.cmd.Process.Pid}); err != nil {
			return nil, fmt.Errorf("start job: %w", err)
		}
	}
	if _, err := p.request.Write(append(body, '\n')); err != nil {
		return nil, p.failure(err)
	}
	stop := context.AfterFunc(ctx, p.end)
	result, err = p.listen(progress)
	if !stop() && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return result, err
}

// process is a job that runs.
type process struct {
	cmd     *exec.Cmd
	request *os.File // to the child; closed to end it
	reports *os.File // from the child
	stderr  bytes.Buffer
	group   *cgroup.Group // nil for none
	memory  int64         // the limit of the group
	exited  chan struct{}
	stuck   atomic.Bool // it can't be killed
}

// start starts the child, which waits for its request.
func (r Runner) start(kind string, stdin *os.File) (*process, error) {
	binary, err := sealed.Self(Argv0)
	if err != nil {
		return nil, err
	}
	defer binary.Close()
	in, request, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	reports, out, err := os.Pipe()
	if err != nil {
		request.Close()
		return nil, err
	}
	defer out.Close()
	p := &process{request: request, reports: reports, exited: make(chan struct{})}
	p.cmd = &exec.Cmd{
		Path: fmt.Sprintf("/proc/self/fd/%d", binary.Fd()), Args: []string{Argv0, kind}, Dir: "/",
		ExtraFiles: append([]*os.File{in, out}, r.Files...), Stderr: &limitedWriter{&p.stderr, 16 << 10},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true}, // the signals of a terminal are for the parent
		WaitDelay:   time.Second,
	}
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	if r.Stdout != nil {
		p.cmd.Stdout = r.Stdout
	}
	if r.IDBase != 0 {
		ids := []syscall.SysProcIDMap{{HostID: int(r.IDBase), Size: 65536}}
		a := p.cmd.SysProcAttr
		a.Cloneflags, a.UidMappings, a.GidMappings = syscall.CLONE_NEWUSER, ids, ids
		a.GidMappingsEnableSetgroups, a.Credential = true, &syscall.Credential{}
	}
	if err := p.cmd.Start(); err != nil {
		request.Close()
		reports.Close()
		return nil, err
	}
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// end asks the job to end, and kills it if it does not. It closes the pipe of reports if the job can't
// be killed: that stays open as long as the job is there.
func (p *process) end() {
	p.request.Close()
	if p.ends() {
		return
	}
	p.kill()
	if !p.ends() {
		p.stuck.Store(true)
		p.reports.Close()
	}
}

// ends waits for a while until the job has ended, and reports whether it has.
func (p *process) ends() bool {
	if p.stuck.Load() {
		return false
	}
	select {
	case <-p.exited:
		return true
	case <-time.After(grace):
		return false
	}
}

func (p *process) kill() {
	if p.group != nil {
		p.group.KillAll()
	}
	p.cmd.Process.Kill()
}

// close makes sure that nothing is left of the job. It reports false if the job can't be killed:
// then that happens when the kernel lets it go.
func (p *process) close() bool {
	p.request.Close()
	p.ends()
	p.kill()
	clean := func() {
		p.reports.Close()
		if p.group != nil {
			p.group.Remove()
		}
	}
	if p.ends() {
		clean()
		return true
	}
	abandoned.Add(1)
	go func() {
		<-p.exited
		clean()
		abandoned.Add(-1)
	}()
	return false
}

// listen reads what the job reports until it ends.
func (p *process) listen(progress func(json.RawMessage)) (json.RawMessage, error) {
	lines := bufio.NewScanner(p.reports)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return nil, p.failure(err)
		}
		switch {
		case m.Error != nil:
			return nil, m.Error
		case m.Result != nil:
			return m.Result, nil
		case m.Progress != nil && progress != nil:
			progress(m.Progress)
		}
	}
	return nil, p.failure(lines.Err())
}

// failure describes the end of a job that has reported none.
func (p *process) failure(err error) error {
	p.request.Close()
	if !p.ends() {
		return fmt.Errorf("the job does not end: %w", errors.Join(err, errors.New("its pipe is closed")))
	}
	if p.group != nil && p.group.OOMKills() > 0 {
		return fmt.Errorf("the job needed more than %d MiB of memory, and was killed", p.memory>>20)
	}
	text, _, _ := strings.Cut(strings.TrimSpace(p.stderr.String()), "\n")
	if text != "" {
		text = ": " + text
	}
	return fmt.Errorf("the job ended early (%s)%s", p.cmd.ProcessState, text)
}

// limitedWriter keeps the first bytes.
type limitedWriter struct {
	w    io.Writer
	room int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	kept := p[:min(len(p), l.room)]
	l.room -= len(kept)
	l.w.Write(kept)
	return len(p), nil
}

// Sweep removes the cgroups of jobs whose parent has died: such a job ends by itself.
func Sweep(host *cgroup.Host) {
	names, _ := host.Children()
	for _, name := range names {
		text, ok := strings.CutPrefix(name, groupPrefix)
		text, _, _ = strings.Cut(text, "-")
		pid, err := strconv.Atoi(text)
		if g := host.Group(name); ok && err == nil && unix.Kill(pid, 0) == unix.ESRCH && !g.Foreign() {
			g.KillAll()
			g.Remove()
		}
	}
}
