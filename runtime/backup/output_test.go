package backup

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a backup that was killed left is removed, and nothing of one that is under way.
func TestSweepTemps(t *testing.T) {
	dir := t.TempDir()
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{tempPrefix + "1" + tempSuffix, tempPrefix + "locked" + tempSuffix, tempPrefix + "young" + tempSuffix, "web.tar.zst", "x.tmp"} {
		if err := os.WriteFile(dir+"/"+name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != tempPrefix+"young"+tempSuffix {
			if err := os.Chtimes(dir+"/"+name, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	locked, err := os.Open(dir + "/" + tempPrefix + "locked" + tempSuffix)
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Close()
	if err := unix.Flock(int(locked.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	sweepTemps(dir)
	left, _ := os.ReadDir(dir)
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	if len(names) != 4 || names[0] != tempPrefix+"locked"+tempSuffix {
		t.Errorf("left: %q", names)
	}
}
