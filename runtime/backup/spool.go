package backup

import "io"

// spool passes bytes on, but while a container stands still it keeps them in memory, as far as there is
// room: compressing them can wait until the container goes on.
type spool struct {
	to     io.Writer
	blocks [][]byte // what is kept, in blocks of spoolBlock
	room   int      // bytes that may still be kept
}

const (
	spoolBlock = 1 << 20
	spoolRoom  = 48 << 20
)

// hold begins to keep what is written.
func (s *spool) hold() { s.room = spoolRoom }

// Write keeps b, or passes it on after what was kept.
func (s *spool) Write(b []byte) (int, error) {
	if len(b) > s.room {
		if err := s.release(); err != nil {
			return 0, err
		}
		return s.to.Write(b)
	}
	s.room -= len(b)
	n := len(b)
	for len(b) > 0 {
		last := len(s.blocks) - 1
		if last < 0 || len(s.blocks[last]) == spoolBlock {
			s.blocks = append(s.blocks, make([]byte, 0, spoolBlock))
			last++
		}
		k := min(len(b), spoolBlock-len(s.blocks[last]))
		s.blocks[last] = append(s.blocks[last], b[:k]...)
		b = b[k:]
	}
	return n, nil
}

// release passes on what was kept, and keeps no more.
func (s *spool) release() error {
	s.room = 0
	for i, block := range s.blocks {
		s.blocks[i] = nil
		if _, err := s.to.Write(block); err != nil {
			return err
		}
	}
	s.blocks = nil
	return nil
}
