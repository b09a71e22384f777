// Package accept is accept(2) for who must not end because it fails for a moment.
package accept

import (
	"errors"
	"log/slog"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// passing are the errors of accept(2) that pass: no descriptor or memory is free, or
// the client went.
var passing = []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.ECONNABORTED}

// From waits for a connection, through what passes; the log tells when that begins
// and when it is over.
func From(l net.Listener, log *slog.Logger) (net.Conn, error) {
	for waits := false; ; waits = true {
		c, err := l.Accept()
		if !slices.ContainsFunc(passing, func(e error) bool { return errors.Is(err, e) }) {
			if waits && err == nil {
				log.Info("requests are answered again")
			}
			return c, err
		}
		if !waits {
			log.Warn("requests wait", "error", err)
		}
		time.Sleep(20 * time.Millisecond) // nothing tells when a descriptor is free
	}
}
