package source

import (
	"time"

	"golang.org/x/sys/unix"
)

// stamp holds the fields of an inode that show whether the content has changed.
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
	// Two writes within one tick of the kernel's clock leave one time stamp. A tick is 10 ms
	// at 100 ticks a second; the rest is a margin for a slow read.
	fineGranularity = 50 * time.Millisecond
	// File systems that keep whole seconds, or pairs of them (FAT).
	coarseGranularity = 2100 * time.Millisecond
)

// isRacy reports whether a write after now may leave the same stamp, so that an equal
// stamp later proves nothing.
func (s stamp) isRacy(now time.Time) bool {
	granularity := fineGranularity
	if s.mtime%int64(time.Second) == 0 {
		granularity = coarseGranularity
	}
	youngest := max(s.mtime, s.ctime)
	return now.UnixNano()-youngest < int64(granularity)
}
