package reconcile

import (
	"os"
	"strings"
	"testing"

	"stead/reconcile/source"
	"stead/spec"
)

// rename makes the stage a host of another name.
func (s *stage) rename(name string) {
	s.src.Change(func(src *source.Source) { src.Host, src.Parser = name, spec.Parser{Host: name} })
}

func TestHosts(t *testing.T) {
	here, there := `hosts: ["web-*"]`, `hosts: ["db-*"]`
	renamed := "hold web  (this host's name is localhost now, which its hosts don't match; set it right or confirm with stead apply --confirm-removal=web)\n"
	for _, story := range []struct {
		summary string
		before  string // a line of web's manifest, applied on web-1
		host    string // the name of this host later
		after   string // the line then; "" is no manifest
		want    string // the plan
	}{
		{"they go on matching", here, "web-2", here, ""},
		{"another pattern that matches", here, "web-1", `hosts: ["*-1"]`, "update web  spec.hosts [\"web-*\"] → [\"*-1\"]  (live)\n"},
		{"they leave this host out", here, "web-1", there, "remove web  (hosts of web.yaml leave this host out)\n"},
		{"they leave this host out, and were not there before", "protect: false", "web-1", there, "remove web  (hosts of web.yaml leave this host out)\n"},
		{"this host has another name", here, "localhost", here, renamed},
		{"another name, and other hosts", here, "localhost", there, renamed},
		{"another name, and the manifest is deleted", here, "localhost", "", "remove web  (manifest gone from DIR)\n"},
	} {
		t.Run(story.summary, func(t *testing.T) {
			s := newStage(t, map[string]string{"m/a.yaml": yaml("a"), "m/b.yaml": yaml("b"), "m/db.yaml": yaml("db", there)})
			s.rename("web-1")
			s.put("m/web.yaml", yaml("web", story.before))
			s.settle()
			if got := s.said(); got != "create web" {
				t.Fatalf("at the start: %s", got)
			}
			s.rename(story.host)
			if story.after == "" {
				s.must(os.Remove(s.dir + "/web.yaml"))
			} else {
				s.put("m/web.yaml", yaml("web", story.after))
			}
			out := s.e.runPass(t.Context(), passOptions{prompt: true})
			for _, j := range out.started {
				<-j.ended
			}
			if got := strings.ReplaceAll(out.plan.String(), s.dir, "DIR"); got != story.want {
				t.Errorf("got %swant %s", got, story.want)
			}
		})
	}
}

// A name may be declared once for each kind of host; a manifest for another host
// is neither a container here nor an error, unless it has errors.
func TestManifestsForOtherHosts(t *testing.T) {
	s := newStage(t, nil)
	s.rename("web-1")
	s.put("m/one.yaml", yaml("web", `hosts: ["web-*"]`))
	s.put("m/two.yaml", yaml("web", `hosts: ["db-*"]`)+"---\n"+yaml("db", `hosts: ["db-*"]`))
	s.put("m/db.container.d/1.yaml", "spec: {user: app}")
	s.put("m/bad.yaml", yaml("bad", `hosts: ["db-*"]`, "usr: x"))
	s.settle()
	if got := s.said(); got != "create web" {
		t.Errorf("calls %s", got)
	}
	r, err := s.e.Status(t.Context())
	s.must(err)
	if len(r.Containers) != 2 || len(r.Notes) != 0 || len(r.Broken) != 1 {
		t.Errorf("%+v", r)
	}
}
