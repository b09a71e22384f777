package image

import (
	"context"
	"fmt"
	"math"

	"stead/runtime/image/unpack"
)

// CopyDirectory copies a directory, with the owners, modes, times, attributes, hard links and holes
// of all that is in it, into the existing, empty directory to. It leaves out sockets and
// what is mounted in it.
func CopyDirectory(ctx context.Context, from, to string) error {
	stream, err := packDirectory(ctx, from)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	defer stream.Close()
	l, err := unpack.Unpack(ctx, to, stream, false, &unpack.Budget{Bytes: math.MaxInt64, Entries: math.MaxInt64})
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	defer l.Close()
	if err := l.Finish(nil); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}
