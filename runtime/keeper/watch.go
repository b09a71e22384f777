package keeper

import (
	"os"
	"sync"
)

// watcher is a client that gets the id of each container that ends. It never blocks the loop.
type watcher struct {
	mu   sync.Mutex
	ids  []string
	more chan struct{}
}

func (w *watcher) notify(id string) {
	w.mu.Lock()
	w.ids = append(w.ids, id)
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}

func (s *server) watch(c conn) error {
	w := &watcher{more: make(chan struct{}, 1)}
	s.do(func() { s.watchers[w] = struct{}{} })
	defer s.do(func() { delete(s.watchers, w) })
	gone := make(chan struct{})
	go func() { // the client sends nothing more: this returns when it disconnects
		var q request
		c.receiveRequest(&q)
		close(gone)
	}()
	if err := c.send(reply{Pid: os.Getpid()}); err != nil {
		return err
	}
	for {
		select {
		case <-gone:
			return nil
		case <-w.more:
		}
		w.mu.Lock()
		ids := w.ids
		w.ids = nil
		w.mu.Unlock()
		for _, id := range ids {
			if err := c.send(reply{ID: id}); err != nil {
				return nil
			}
		}
	}
}
