// Package touch finds out whether file systems answer before this process uses them. A thread in
// a system call that a network or FUSE server never answers can't be given up: its process
// survives SIGKILL, and keeps its locks. So paths on file systems that may hang are touched
// first in a process of its own, which holds no lock. If it does not end in time it is
// abandoned, and no more than a few are for each mount.
//
// Paths on local file systems cost nothing: where they lead is found in the mount table.
package touch

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"stead/runtime/hostpath"
)

const (
	// timeout is how long a file system may take.
	timeout = 10 * time.Second
	// maxAbandoned is how many processes that were abandoned may wait for one mount; more are
	// refused.
	maxAbandoned = 2
	// maxAtOnce is how many processes touch one mount at once.
	maxAtOnce = 8
)

// Paths are the paths to touch.
type Paths struct {
	Outside []string // absolute paths of the host; a directory is also read
	Root    string   // a root directory; "" for none
	Inside  []string // paths inside the root
}

// HungError is returned for a file system that does not answer.
type HungError struct {
	Mount *hostpath.RemoteMount
	At    string    // the path that was touched; "" if whoever asked names it
	Since time.Time // the first process that still waits began
}

func (e *HungError) Error() string {
	at := ""
	if e.At != "" {
		at = e.At + ": "
	}
	return fmt.Sprintf("%sthe file system at %s does not answer since %s; look at its server, or unmount it: umount -f -l %s",
		at, e.Mount, e.Since.Format(time.TimeOnly), e.Mount.Point)
}

// Guard counts the processes that were abandoned. The zero value is ready to use.
type Guard struct {
	mu      sync.Mutex // guards waiting
	waiting map[string][]*process
}

// process touches paths, or was abandoned.
type process struct {
	began time.Time
	at    string // the path that it touches now
}

// Touch touches those of the paths that lead to file systems that may hang. The error is a
// HungError if one does not answer; errors of the paths themselves are left to whoever uses
// them.
func (g *Guard) Touch(ctx context.Context, p Paths) error {
	p, remote := p.remote()
	if len(remote) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	job, err := g.begin(ctx, remote)
	if err != nil {
		return err
	}
	cmd, progress, err := p.start()
	if err != nil {
		g.end(remote, job)
		return fmt.Errorf("touch %s: %w", slices.Sorted(maps.Keys(remote)), err)
	}
	done := make(chan struct{})
	go func() {
		for s := bufio.NewScanner(progress); s.Scan(); {
			g.mu.Lock()
			job.at = s.Text()
			g.mu.Unlock()
		}
		_ = cmd.Wait() // long after the time is up, perhaps
		g.end(remote, job)
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	_ = cmd.Process.Kill() // it may help
	g.mu.Lock()
	defer g.mu.Unlock()
	return &HungError{Mount: mountOf(job.at, remote), At: job.at, Since: job.began}
}

// remote returns those of the paths that may hang, and the mounts that they lead to.
func (p Paths) remote() (Paths, map[string]*hostpath.RemoteMount) {
	mounts := map[string]*hostpath.RemoteMount{}
	lead := func(path string) bool {
		m := hostpath.Remote(path)
		if m != nil {
			mounts[m.Point] = m
		}
		return m != nil
	}
	var out Paths
	for _, path := range p.Outside {
		if lead(path) {
			out.Outside = append(out.Outside, path)
		}
	}
	if p.Root != "" && lead(p.Root) {
		out.Root, out.Inside = p.Root, p.Inside
	}
	return out, mounts
}

// mountOf returns the mount that a path leads to.
func mountOf(path string, mounts map[string]*hostpath.RemoteMount) *hostpath.RemoteMount {
	if m := hostpath.Remote(path); m != nil {
		return m
	}
	return mounts[slices.Sorted(maps.Keys(mounts))[0]]
}

// begin counts a process, waits while others touch the same mount, and refuses it if too many
// were abandoned.
func (g *Guard) begin(ctx context.Context, mounts map[string]*hostpath.RemoteMount) (*process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for {
		busy := false
		for point, m := range mounts {
			all := g.waiting[point]
			if len(all) >= maxAbandoned && (ctx.Err() != nil || time.Since(all[0].began) >= timeout) {
				return nil, &HungError{Mount: m, At: all[0].at, Since: all[0].began}
			}
			busy = busy || len(all) >= maxAtOnce
		}
		if !busy {
			break
		}
		g.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
		g.mu.Lock()
	}
	job := &process{began: time.Now()}
	if g.waiting == nil {
		g.waiting = map[string][]*process{}
	}
	for point := range mounts {
		g.waiting[point] = append(g.waiting[point], job)
	}
	return job, nil
}

func (g *Guard) end(mounts map[string]*hostpath.RemoteMount, job *process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for point := range mounts {
		if all := slices.DeleteFunc(g.waiting[point], func(p *process) bool { return p == job }); len(all) > 0 {
			g.waiting[point] = all
		} else {
			delete(g.waiting, point)
		}
	}
}

// start starts the process. It prints each path before it touches it.
func (p Paths) start() (*exec.Cmd, io.Reader, error) {
	request, err := json.Marshal(p)
	if err != nil {
		return nil, nil, err
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{argv0, string(request)}, Dir: "/", Env: []string{},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	progress, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	return cmd, progress, err
}

// argv0 is the argv[0] with which this program touches paths and does nothing else.
const argv0 = "stead-touch"

func init() {
	if os.Args[0] == argv0 && len(os.Args) == 2 {
		var p Paths
		if json.Unmarshal([]byte(os.Args[1]), &p) == nil {
			p.touch()
		}
		os.Exit(0)
	}
}
