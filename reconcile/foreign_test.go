package reconcile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/reconcile/desired"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// An application's configuration may lie beside manifests: it is noted and no error. A
// file that was a manifest is one for good, whatever it holds now.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	look := func(s *source.Source, observed ...*status.Status) (notes, broken, does string) {
		d := desired.Declare(s.Read()).Combine(observed)
		for _, f := range d.Broken {
			for _, err := range f.Errs {
				broken += err.Error() + "\n"
			}
		}
		strip := strings.NewReplacer(dir+"/", "")
		return strip.Replace(strings.Join(d.Notes, "\n")), strip.Replace(broken), plan.Diff(d, observed, plan.Memory{Prompt: true}, noon).String()
	}
	s := &source.Source{Dirs: []string{dir}, Parser: spec.Parser{}}
	write("web.yaml", yaml("web", ""))
	write("prometheus.yml", "scrape_configs: []\n")
	write("broken.yaml", "{{ if .x }\n")
	notes, broken, _ := look(s)
	const rest = "; a folder named *.files may hold what is no manifest"
	want := "broken.yaml: not followed: no document in it has apiVersion: stead/v1 (not valid YAML: did not find expected ',' or '}')" + rest + "\n" +
		"prometheus.yml: not followed: no document in it has apiVersion: stead/v1" + rest
	if notes != want || broken != "" {
		t.Errorf("got notes\n%s\nand errors\n%s\nwant\n%s", notes, broken, want)
	}

	web := running(t, "web")
	web.From.File = dir + "/web.yaml"
	write("web.yaml", "server: {}\n")
	for _, reader := range []struct {
		who string
		*source.Source
	}{{"the same daemon", s}, {"another daemon", &source.Source{Dirs: []string{dir}, Parser: spec.Parser{}}}} {
		notes, broken, does := look(reader.Source, web)
		if does != "" || !strings.Contains(broken, "web.yaml:1:1: spec: missing") || strings.Contains(notes, "web.yaml") {
			t.Errorf("%s, a manifest that is none any more: planned %q, noted %q, errors %q", reader.who, does, notes, broken)
		}
	}
	write("new.yaml", "apiVersion: staed/v1\nkind: Container\nmetadata: {name: new}\nspec: {}\n")
	if _, broken, _ := look(s); !strings.Contains(broken, `new.yaml:1:13: apiVersion: found "staed/v1", want stead/v1`) {
		t.Errorf("a misspelt apiVersion is no error: %s", broken)
	}
	write("warn.yaml", yaml("warn", "args: [\"$$HOME\"]"))
	if notes, _, _ := look(s); !strings.Contains(notes, "warn.yaml:7:10: spec.args[0]: found $$HOME") {
		t.Errorf("a warning is not among the notes: %s", notes)
	}
}

// A manifest that is renamed and broken at once, so that nothing in it says that it is one,
// keeps its container: bad input never deletes.
func TestRenamedAndForeignAtOnce(t *testing.T) {
	s := newStage(t, map[string]string{"m/web.yaml": yaml("web"), "m/db.yaml": yaml("db")})
	s.must(os.Remove(s.dir + "/web.yaml"))
	s.put("m/web2.yaml", strings.NewReplacer("apiVersion: stead/v1\n", "", "kind: Container\n", "").Replace(yaml("web")))
	out := s.e.runPass(t.Context(), passOptions{prompt: true})
	if len(out.plan.Actions) > 0 || len(out.started) > 0 {
		t.Errorf("planned %q, want nothing", out.plan)
	}
	if why := s.why("web"); !strings.Contains(why, "web2.yaml") {
		t.Errorf("ps says %q, want the file that may mean it", why)
	}
}
