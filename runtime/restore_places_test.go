package runtime

import (
	"os"
	"testing"

	"stead/runtime/backup"
	"stead/spec"
)

// What was unpacked beside a directory goes into its place only if it still belongs there.
func TestChangedPlace(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		summary, root, source, want string
	}{
		{"as it was", dir + "/root", dir + "/data", ""},
		{"the same through a link", dir + "/link/root", dir + "/link/data", ""},
		{"another root", dir + "/other", dir + "/data", dir + "/root"},
		{"no path root any more", "", dir + "/data", dir + "/root"},
		{"another source", dir + "/root", dir + "/other", dir + "/data"},
		{"not mounted any more", dir + "/root", "", dir + "/data"},
	} {
		m := &spec.Container{}
		m.Spec.Rootfs.Path = row.root
		m.Spec.Mounts = map[string]spec.Mount{"/data": {Source: row.source}, "/v": {Volume: "v"}}
		v := &backup.Staged{Places: []backup.Place{
			{Tree: backup.Tree{Name: backup.RootTree}, Target: dir + "/root"},
			{Tree: backup.Tree{Name: "1", Target: "/data"}, Target: dir + "/data"},
			{Tree: backup.Tree{Name: "2", Target: "/v", Volume: "v"}, Target: "/anywhere"},
		}}
		if got := changedPlace(m, v); got != row.want {
			t.Errorf("%s: %q, want %q", row.summary, got, row.want)
		}
	}
}
