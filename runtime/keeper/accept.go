package keeper

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// temporary lists the temporary errors of accept(2): no descriptor or memory is free, or the
// client has disconnected.
var temporary = []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.ECONNABORTED}

// acceptFrom waits for a connection and retries after temporary errors. It logs the first of them and
// the next success.
func acceptFrom(l net.Listener, log *slog.Logger) (net.Conn, error) {
	for waits := false; ; waits = true {
		c, err := l.Accept()
		if !slices.ContainsFunc(temporary, func(e error) bool { return errors.Is(err, e) }) {
			if waits && err == nil {
				log.Info("accept succeeds again")
			}
			return c, err
		}
		if !waits {
			log.Warn("accept failed; retrying", "error", err)
		}
		time.Sleep(20 * time.Millisecond) // no event reports a free descriptor
	}
}
