package runtime

import (
	"errors"
	"testing"

	"stead/runtime/backup"
)

// An archive whose manifest is that of another container is refused before anything is unpacked.
func TestRestoreOfAnotherManifest(t *testing.T) {
	for name, refused := range map[string]bool{"web": false, "shop": true} {
		x := &backup.Index{Name: "web", Root: "host", Applied: `{"metadata":{"name":"` + name + `"},"spec":{"rootfs":{"host":{}}}}`, Trees: []backup.Tree{{Name: backup.RootTree}}}
		q := &UnpackRequest{StateDir: t.TempDir(), Staging: t.TempDir()}
		if _, err := q.accept(x); errors.Is(err, backup.ErrDamaged) != refused || !refused && err != nil {
			t.Errorf("the manifest of %s: %v", name, err)
		}
	}
}

func TestCopyOfVolume(t *testing.T) {
	for _, row := range [][2]string{{"web", "shop"}, {"web-data", "shop-data"}, {"web.data", "shop.data"}, {"data", "shop-data"}, {"website", "shop-website"}} {
		if got := copyOfVolume(row[0], "web", "shop"); got != row[1] {
			t.Errorf("%s: got %s, want %s", row[0], got, row[1])
		}
	}
}
