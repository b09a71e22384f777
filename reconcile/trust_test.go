package reconcile

import (
	"os"
	"strings"
	"testing"

	"stead/reconcile/source"
)

// What others can write is refused, and what runs is kept: a file like any broken
// one, a directory with all that is in it, and what is gone from it is not believed.
func TestWritableManifests(t *testing.T) {
	s := newStage(t, map[string]string{"m/web.yaml": yaml("web"), "m/team/db.yaml": yaml("db"), "m/team/mq.yaml": yaml("mq")})
	s.must(os.Chmod(s.root, 0o755))
	s.src.Change(func(src *source.Source) { src.Trust = &source.Trust{} })
	for _, step := range []struct {
		what string
		do   func()
		want string            // the actions
		why  map[string]string // of containers
	}{
		{"a file", func() { s.put("m/web.yaml", yaml("web", "user: app")); s.must(os.Chmod(s.dir+"/web.yaml", 0o666)) }, "",
			map[string]string{"web": "web.yaml: DIR/web.yaml can be written by others than its owner (mode 0666): chmod go-w DIR/web.yaml"}},
		{"as it says", func() { s.must(os.Chmod(s.dir+"/web.yaml", 0o644)) }, "restart web", nil},
		{"a directory, and a deletion in it", func() { s.must(os.Chmod(s.dir+"/team", 0o775)); s.must(os.Remove(s.dir + "/team/mq.yaml")) }, "", map[string]string{
			"db": "team/db.yaml: DIR/team can be written by others than its owner (mode 0775): chmod go-w DIR/team",
			"mq": "its absence is not trusted: DIR/team can be written by others than its owner (mode 0775): chmod go-w DIR/team; bring it back or confirm with stead apply --confirm-removal=mq",
		}},
		{"a new file in it", func() { s.put("m/team/new.yaml", yaml("new")) }, "", map[string]string{
			"DIR/team/new.yaml": "team/new.yaml: DIR/team can be written by others than its owner (mode 0775): chmod go-w DIR/team"}},
		{"as it says", func() { s.must(os.Chmod(s.dir+"/team", 0o755)) }, "create new", map[string]string{"mq": "manifest gone from DIR, removed in 5s", "new": ""}},
	} {
		step.do()
		s.settle()
		if got := s.said(); got != step.want {
			t.Errorf("%s: actions %q, want %q", step.what, got, step.want)
		}
		why := map[string]string{}
		for _, v := range s.e.views() {
			why[strings.ReplaceAll(v.Name, s.dir, "DIR")] = strings.ReplaceAll(v.Why, s.dir, "DIR")
		}
		for name, want := range step.why {
			if why[name] != want {
				t.Errorf("%s: %s: %q, want %q", step.what, name, why[name], want)
			}
		}
	}
}
