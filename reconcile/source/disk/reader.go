package disk

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"stead/runtime/files"
	"stead/runtime/hostpath"
	"stead/runtime/touch"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long a file system may take for one path. A pass waits for it once: then
	// the mount counts as hung.
	patience = 3 * time.Second
	// progressEvery is how often the process says that it gets on.
	progressEvery = 200 * time.Millisecond
)

// maxRound is how long a round may wait for one mount in all: a pass must not take as long as a
// thousand slow answers. What is left counts as hung until the next round. Tests shorten it.
var maxRound = 15 * time.Second

// request is one call to the process.
type request struct {
	Op     op
	Path   string
	Names  []string // opFolder: names in it whose attributes are wanted
	Max    int64    // opFile
	Shared []string // opContent
	Owners []uint32
}

type op int

const (
	opResolve op = iota
	opSteps
	opFolder
	opEntries
	opStat
	opLstat
	opFile
	opLook
	opContent
)

// reply is an answer of the process, or with Progress the message that it gets on.
type reply struct {
	Progress bool
	Err      *failure
	Real     string
	Links    []string
	Steps    []Step
	Stat     unix.Stat_t
	Identity string
	Stats    []result
	Entries  []Entry
	Data     []byte
	Look     Look
	Content  *files.Content
}

// failure is an error that passes between the processes.
type failure struct {
	Errno   unix.Errno // 0 if it is none of the kernel's
	Text    string
	Writing bool
}

func (e *failure) Error() string { return e.Text }

func (e *failure) Unwrap() error {
	switch {
	case e.Errno != 0:
		return e.Errno
	case e.Writing:
		return ErrWriting
	}
	return nil
}

// failureOf returns an error as a failure, without the path of a PathError; nil for nil.
func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	if p := new(os.PathError); errors.As(err, &p) {
		err = p.Err
	}
	f := &failure{Text: err.Error(), Writing: errors.Is(err, ErrWriting) || errors.Is(err, files.ErrWriting)}
	_ = errors.As(err, &f.Errno)
	return f
}

// reader is a process that reads from one mount.
type reader struct {
	used  bool          // in this round
	spent time.Duration // waiting for it in this round
	hung  *touch.HungError

	cmd  *exec.Cmd
	in   io.WriteCloser
	send *gob.Encoder
	out  *gob.Decoder
}

// argv0 is the argv[0] with which this program reads for another one and does nothing else.
const argv0 = "stead-read"

func startReader() (*reader, error) {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{argv0}, Dir: "/", Env: []string{},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &reader{cmd: cmd, in: in, send: gob.NewEncoder(in), out: gob.NewDecoder(out)}, nil
}

// end ends the process, or lets it end as soon as the kernel allows.
func (r *reader) end() {
	r.in.Close()
	_ = r.cmd.Process.Kill()
	go r.cmd.Wait()
}

// ask has the process of a mount carry out a request.
func (d *Disk) ask(m *hostpath.RemoteMount, q request) (reply, error) {
	r, err := d.reader(m)
	if err != nil {
		return reply{}, err
	}
	began := time.Now()
	left := maxRound - r.spent // only this goroutine uses it, see Disk
	if left <= 0 {
		return reply{}, &touch.HungError{Mount: m, Since: began.Add(-r.spent)}
	}
	defer func() { r.spent += time.Since(began) }()
	progress, done := make(chan struct{}, 1), make(chan error, 1)
	var answer reply
	go func() { done <- r.exchange(q, &answer, progress) }()
	timer := time.NewTimer(min(patience, left))
	defer timer.Stop()
	for {
		select {
		case <-progress:
			timer.Reset(min(patience, left-time.Since(began)))
		case err := <-done:
			if err != nil {
				d.drop(r)
				return reply{}, fmt.Errorf("read %s in another process: %w", q.Path, err)
			}
			if answer.Err != nil {
				return answer, answer.Err.restore()
			}
			return answer, nil
		case <-timer.C:
			hung := &touch.HungError{Mount: m, Since: began}
			d.mu.Lock()
			r.hung = hung
			d.mu.Unlock()
			go func() {
				<-done // long after, perhaps
				if d.drop(r) && d.Answered != nil {
					d.Answered()
				}
			}()
			return reply{}, hung
		}
	}
}

// restore returns the error as it was where only the kernel said it.
func (e *failure) restore() error {
	if e.Errno != 0 && e.Text == e.Errno.Error() {
		return e.Errno
	}
	return e
}

// reader returns the process of a mount, or an error if it does not answer.
func (d *Disk) reader(m *hostpath.RemoteMount) (*reader, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.readers[m.ID]
	if r == nil {
		var err error
		if r, err = startReader(); err != nil {
			return nil, fmt.Errorf("start a process that reads from %s: %w", m, err)
		}
		if d.readers == nil {
			d.readers = map[int]*reader{}
		}
		d.readers[m.ID] = r
	}
	r.used = true
	if r.hung != nil {
		return nil, r.hung
	}
	return r, nil
}

// drop ends a process, and reports whether it was not forgotten before.
func (d *Disk) drop(r *reader) (known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, is := range d.readers {
		if is == r {
			delete(d.readers, id)
			r.end()
			return true
		}
	}
	return false
}

// exchange sends a request and waits for its answer.
func (r *reader) exchange(q request, answer *reply, progress chan<- struct{}) error {
	if err := r.send.Encode(q); err != nil {
		return err
	}
	for {
		*answer = reply{}
		if err := r.out.Decode(answer); err != nil {
			return err
		}
		if !answer.Progress {
			return nil
		}
		select {
		case progress <- struct{}{}:
		default:
		}
	}
}

// serve is the work of the process, until the one that started it ends.
func serve() {
	_ = os.WriteFile("/proc/self/comm", []byte(argv0), 0) // otherwise its name is that of the program
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var q request
		if in.Decode(&q) != nil {
			return
		}
		said := time.Now()
		a := q.carryOut(func(string) {
			if time.Since(said) >= progressEvery {
				said = time.Now()
				_ = out.Encode(reply{Progress: true})
			}
		})
		if out.Encode(a) != nil {
			return
		}
	}
}

// carryOut does what is asked. It calls progress for each path.
func (q request) carryOut(progress func(path string)) (a reply) {
	var err error
	switch q.Op {
	case opResolve:
		a.Real, a.Links = hostpath.Resolve(q.Path)
	case opSteps:
		a.Steps = Steps(q.Path)
	case opFolder, opEntries:
		err = q.folder(&a, progress)
	case opStat:
		err = unix.Stat(q.Path, &a.Stat)
	case opLstat:
		err = unix.Lstat(q.Path, &a.Stat)
	case opFile:
		a.Data, a.Stat, err = readFile(unix.AT_FDCWD, q.Path, q.Max, func(*unix.Stat_t) string { return "" })
	case opLook:
		a.Look = look(q.Path, progress)
	case opContent:
		a.Content, a.Stat.Ino, a.Identity, err = content(q.Path, q.Shared, q.Owners, progress)
	}
	a.Err = failureOf(err)
	return a
}

func (q request) folder(a *reply, progress func(path string)) error {
	fd, err := unix.Open(q.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if q.Op == opEntries {
		a.Entries, err = entries(fd, q.Path, progress)
		return err
	}
	if err := unix.Fstat(fd, &a.Stat); err != nil {
		return err
	}
	a.Identity = hostpath.Identity(fd)
	for _, name := range q.Names {
		progress(name)
		var r result
		if err := unix.Fstatat(fd, name, &r.Stat, 0); err != nil {
			_ = errors.As(err, &r.Errno)
		}
		a.Stats = append(a.Stats, r)
	}
	return nil
}

func init() {
	if os.Args[0] == argv0 && len(os.Args) == 1 {
		serve()
		os.Exit(0)
	}
}
