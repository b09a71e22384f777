package keeper

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"stead/runtime/launch"
	"stead/runtime/record"

	"golang.org/x/sys/unix"
)

// adopt takes over the containers that an earlier keeper left running, and records
// those that have ended since. pipes holds the pipes that the earlier keeper handed over,
// by the id of the start; nil if none were.
func (l *loop) adopt(pipes map[string][2]int) error {
	records, err := record.ReadAll(l.run)
	if err != nil {
		l.log.Error("read records", "error", err) // one broken file must not stop the rest
	}
	records = slices.DeleteFunc(records, func(r *record.Record) bool { return r.State != record.Running || r.BootID != record.BootID() })
	if pipes == nil {
		if err := checkAdoptable(len(records)); err != nil {
			return err
		}
	}
	for _, r := range records {
		if err := l.adoptOne(r, pipes); err != nil {
			return fmt.Errorf("adopt %s: %w", r.ID(), err)
		}
	}
	return nil
}

func (l *loop) adoptOne(r *record.Record, pipes map[string][2]int) error {
	e := &entry{rec: r, log: l.logs.Log(r.LogDir, r.LogSize, r.LogKeep), out: [2]int{-1, -1}, pidfd: -1}
	if handed, ok := pipes[r.ID()]; ok {
		e.out = handed
	} else if err := e.openPipes(l.run); err != nil { // somebody removed them: the container matters more than its output
		l.log.Error("cannot read the output of the container", "container", r.Name, "error", err)
	}
	if e.child = isChild(r); e.child {
		return l.register(e) // wait4 reports its exit, even an earlier one
	}
	pidfd, err := unix.PidfdOpen(r.Pid, 0)
	if err == nil && !r.Alive() { // checked after the pidfd was opened, so that the pid can't be a reused one
		unix.Close(pidfd)
		err = unix.ESRCH
	}
	if errors.Is(err, unix.ESRCH) {
		l.finish(e, missedEnding(l.run, r))
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	e.pidfd = pidfd
	return l.register(e)
}

// missedEnding returns the ending of a container that ended while no keeper ran. The ran
// file shows whether the command was ever executed.
func missedEnding(run string, r *record.Record) *record.Ending {
	ran, failed, err := launch.ReadRan(record.RanPath(run, r.ID()))
	switch {
	case failed != nil:
		var f *launch.Error
		errors.As(failed, &f)
		return &record.Ending{Code: launch.ExitCode(f.Where, f.Errno), Failed: f.Error(), Where: string(f.Where)}
	case err == nil && !ran:
		return &record.Ending{Code: 125, Failed: "the start was interrupted before the command ran", Where: string(launch.AtStep)}
	}
	return &record.Ending{Code: -1, Unknown: true}
}

// handleAdoptedExit handles the exit of a process that is not a child of this keeper. The
// kernel gives its exit code only after its parent has reaped it (PIDFD_GET_INFO,
// Linux 6.15); the pidfd then reports EPOLLHUP.
func (l *loop) handleAdoptedExit(e *entry) {
	if end := missedEnding(l.run, e.rec); !end.Unknown { // the last keeper died during the launch
		l.finish(e, end)
		return
	}
	ws, reaped, err := exitInfo(e.pidfd)
	switch {
	case err == nil && reaped:
		l.finish(e, endingOf(ws))
	case err == nil:
		event := unix.EpollEvent{Events: 0, Fd: int32(e.pidfd)} // EPOLLHUP is always reported
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, e.pidfd, &event); err != nil {
			l.finish(e, &record.Ending{Code: -1, Unknown: true})
		}
	default:
		l.finish(e, &record.Ending{Code: -1, Unknown: true})
	}
}

// exitInfo returns the wait status of any process, and whether it was reaped
// (PIDFD_GET_INFO, Linux 6.15).
func exitInfo(pidfd int) (ws unix.WaitStatus, reaped bool, err error) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	err = unix.IoctlPidfdInfo(pidfd, &info)
	return unix.WaitStatus(info.Exit_code), info.Mask&unix.PIDFD_INFO_EXIT != 0, err
}

// openPipes opens the keeper's ends of the pipes, read-write, so that they never report a
// hang-up while the container has closed its ends.
func (e *entry) openPipes(run string) error {
	for s, p := range []string{record.StdoutPath(run, e.rec.ID()), record.StderrPath(run, e.rec.ID())} {
		fd, err := unix.Open(p, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			e.closePipes()
			return &os.PathError{Op: "open", Path: p, Err: err}
		}
		e.out[s] = fd
	}
	return nil
}

func (e *entry) closePipes() {
	for s, fd := range e.out {
		if fd >= 0 {
			unix.Close(fd)
			e.out[s] = -1
		}
	}
}
