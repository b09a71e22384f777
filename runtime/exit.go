package runtime

import (
	"cmp"
	"fmt"

	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// exitOf translates the ending of a run.
func exitOf(e *record.Ending, stopping bool) *status.Exit {
	if e == nil {
		return &status.Exit{Code: -1, Reason: status.ReasonUnknown}
	}
	x := &status.Exit{Code: e.Code}
	if e.Signal != 0 {
		x.Signal = signalName(e.Signal)
	}
	switch {
	case e.Failed != "":
		x.Reason, x.Message = cmp.Or(failedReasons[launch.Where(e.Where)], status.ReasonStartFailed), e.Failed
	case e.Unknown:
		x.Reason, x.Message = status.ReasonUnknown, "ended while no keeper watched"
	case e.OOM:
		x.Reason, x.Message = status.ReasonOOMKilled, oomMessage(e.OOMLimit)
	case stopping:
		x.Reason = status.ReasonStopped
	case e.Signal != 0:
		x.Reason, x.Message = status.ReasonSignalled, "ended by signal "+x.Signal
	case e.Code == 0:
		x.Reason = status.ReasonCompleted
	default:
		x.Reason, x.Message = status.ReasonError, fmt.Sprintf("exit code %d", e.Code)
	}
	return x
}

// oomMessage returns a message with the limit that was hit.
func oomMessage(limit int64) string {
	switch {
	case limit > 0:
		return "killed at its memory limit of " + spec.Bytes(limit).String()
	case limit < 0:
		return "killed as the host was short of memory; it has no limit of its own"
	}
	return "killed at its memory limit"
}

// failedReasons are the reasons of starts that failed, by the place of the failure.
var failedReasons = map[launch.Where]string{
	launch.AtRoot:         status.ReasonRootfsMissing,
	launch.AtSource:       status.ReasonMountSourceMissing,
	launch.AtTarget:       status.ReasonMountTarget,
	launch.AtIDMap:        status.ReasonIdmapUnsupported,
	launch.AtCommand:      status.ReasonCommandNotFound,
	specconv.AtImage:      status.ReasonImageMissing,
	specconv.AtFile:       status.ReasonFileSource,
	specconv.AtVolume:     status.ReasonVolumeInUse,
	specconv.AtUser:       status.ReasonUserNotFound,
	specconv.AtFileSystem: status.ReasonFileSystemHangs,
	specconv.AtDevice:     status.ReasonDeviceNotFound,
}

// signalName returns the name of a signal without SIG: "KILL", or "RTMIN+3".
func signalName(n int) string {
	if n >= 34 && n <= 64 { // SIGRTMIN as libc counts it
		return fmt.Sprintf("RTMIN+%d", n-34)
	}
	if s := unix.SignalName(unix.Signal(n)); len(s) > 3 {
		return s[3:]
	}
	return fmt.Sprint(n)
}
