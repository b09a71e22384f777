package backup

import (
	"bytes"
	"testing"
)

// What a spool keeps comes out in order, also when there is no more room.
func TestSpool(t *testing.T) {
	for _, size := range []int{1000, spoolRoom - 1, spoolRoom + 3<<20} {
		var got bytes.Buffer
		s := &spool{to: &got}
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(i * 7 >> 3)
		}
		write := func(b []byte) {
			for at := 0; at < len(b); at += 256<<10 - 3 {
				if _, err := s.Write(b[at:min(len(b), at+256<<10-3)]); err != nil {
					t.Fatal(err)
				}
			}
		}
		write(want[:size/4])
		if got.Len() != size/4 {
			t.Errorf("%d bytes: kept without hold", size)
		}
		s.hold()
		write(want[size/4:])
		if size <= spoolRoom && got.Len() != size/4 {
			t.Errorf("%d bytes: %d were passed on", size, got.Len())
		}
		if err := s.release(); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%d bytes: %v, %d came out", size, err, got.Len())
		}
	}
}
