package source

import (
	"time"

	"golang.org/x/sys/unix"
)

// stamp is what of a file's inode tells that its content is the same.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // nanoseconds
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{
		dev: uint64(st.Dev), ino: st.Ino, size: st.Size, //nolint:unconvert // Dev is smaller on some architectures
		mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(),
	}
}

const (
	// Two writes within one tick of the kernel's clock leave one time stamp:
	// 10 ms at 100 ticks a second, doubled for good measure and a slow read.
	fineGranularity = 50 * time.Millisecond
	// File systems that keep whole seconds, or pairs of them (FAT).
	coarseGranularity = 2100 * time.Millisecond
)

// isRacy tells whether something may have been written after now without a new
// time stamp, so that an equal stamp later proves nothing.
func (s stamp) isRacy(now time.Time) bool {
	granularity := fineGranularity
	if s.mtime%int64(time.Second) == 0 {
		granularity = coarseGranularity
	}
	youngest := max(s.mtime, s.ctime)
	return now.UnixNano()-youngest < int64(granularity)
}

// retryEINTR repeats a call that a signal interrupted (man 7 signal).
func retryEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
