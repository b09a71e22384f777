package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlanOffline(t *testing.T) {
	dir := t.TempDir()
	lines := func(name string, more ...string) string {
		return strings.Replace(good, "name: web", "name: "+name, 1) + strings.Join(append(more, ""), "\n")
	}
	for path, text := range map[string]string{
		"old/web.yaml": lines("web", "  resources: {memory: 64Mi}"), "new/web.yaml": lines("web", "  resources: {memory: 128Mi}"),
		"old/same.yaml": lines("same"), "new/same.yaml": "# the same, in other words\n" + lines("same", "  protect: false"),
		"old/moved.yaml": lines("moved"), "new/team/moved.yaml": lines("moved"),
		"old/gone.yaml":                 lines("gone"),
		"new/coming.yaml":               lines("coming"),
		"old/protected.yaml":            lines("protected", "  protect: true"),
		"old/secret.yaml":               lines("secret"),
		"new/secret.yaml":               strings.Replace(lines("secret"), "hunter2", "hunter3", 1),
		"old/dropin.yaml":               lines("dropin"),
		"new/dropin.yaml":               lines("dropin"),
		"old/db-only.yaml":              lines("db-only", "  hosts: ['db-*']", "  resources: {pids: 5}"),
		"new/db-only.yaml":              lines("db-only", "  hosts: ['db-*']", "  resources: {pids: 6}"),
		"old/asleep.yaml":               lines("asleep", "  suspend: true"),
		"new/asleep.yaml":               lines("asleep"),
		"same/web.yaml":                 lines("web"),
		"broken/web.yaml":               lines("web", "  usr: x"),
		"tags/web.yaml":                 strings.Replace(lines("web", "  files: {/etc/app.conf: {source: /srv/app.conf}}"), "{host: {}}", "{image: docker.io/library/nginx:1}", 1),
		"tags2/web.yaml":                strings.Replace(lines("web", "  files: {/etc/app.conf: {source: /srv/app.conf}}"), "{host: {}}", "{image: docker.io/library/nginx:2}", 1),
		"tags2/new.yaml":                strings.Replace(lines("new"), "{host: {}}", "{image: local}", 1),
		"new/dropin.container.d/1.yaml": "spec: {resources: {pids: 9}}",
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, text)
	}
	t.Chdir(dir)
	for _, test := range []struct {
		summary string
		args    []string
		want    call
	}{
		{"a change of many things", []string{"--from", "old", "--manifests", "new", "--host", "web-1"}, call{exitDiffers, `start asleep  spec.suspend true → false  (no longer suspended)
create coming  (manifest coming.yaml)
update dropin  spec.resources.pids (absent) → 9  (live)
remove gone  (manifest gone from DIR/new)
restart secret  spec.env.SECRET (hidden) → (hidden)  (needs a restart)
update web  spec.resources.memory 64Mi → 128Mi  (live)
hold protected  (protected; confirm with stead apply --confirm-removal=protected)
`, ""}},
		{"on another host", []string{"--from", "old/", "--manifests", "new", "--host", "db-7"}, call{exitDiffers, `start asleep  spec.suspend true → false  (no longer suspended)
create coming  (manifest coming.yaml)
update db-only  spec.resources.pids 5 → 6  (live)
update dropin  spec.resources.pids (absent) → 9  (live)
remove gone  (manifest gone from DIR/new)
restart secret  spec.env.SECRET (hidden) → (hidden)  (needs a restart)
update web  spec.resources.memory 64Mi → 128Mi  (live)
hold protected  (protected; confirm with stead apply --confirm-removal=protected)
`, ""}},
		{"no change", []string{"--from", "old", "--manifests", "old"}, call{0, "all is as declared\n", ""}},
		{"what only the host can tell", []string{"--from", "tags", "--manifests", "tags2"}, call{exitDiffers, `web  spec.files[/etc/app.conf] (not compared)
create new  (manifest new.yaml; digest chosen on the host)
restart web  spec.rootfs.image docker.io/library/nginx:1 → docker.io/library/nginx:2  (needs a restart; digest chosen on the host)
`, ""}},
		{"it breaks something", []string{"--from", "same", "--manifests", "broken"}, call{exitInvalid, "", "stead: DIR/broken/web.yaml:9:3: spec.usr: unknown field; did you mean user?\n"}},
		{"it mends something", []string{"--from", "broken", "--manifests", "same"}, call{exitDiffers, "create web  (manifest web.yaml)\n",
			"note: DIR/broken/web.yaml:9:3: spec.usr: unknown field; did you mean user?; its containers count as absent\n"}},
		{"nothing to compare with", []string{"--from", "old"}, call{exitUsage, "", "stead: --from needs --manifests too: the directory with the new manifests\n"}},
	} {
		t.Run(test.summary, func(t *testing.T) {
			got := run(t, "", append([]string{"plan"}, test.args...)...)
			got.out, got.err = strings.ReplaceAll(got.out, dir, "DIR"), strings.ReplaceAll(got.err, dir, "DIR")
			if got != test.want {
				t.Errorf("got %d\n%s%s\nwant %d\n%s%s", got.code, got.out, got.err, test.want.code, test.want.out, test.want.err)
			}
		})
	}
	c := run(t, "", "plan", "--from", "old", "--manifests", "new", "--host", "web-1", "-o", "json")
	var v planView
	if err := json.Unmarshal([]byte(c.out), &v); err != nil || c.code != exitDiffers || !v.Changed || len(v.Containers) != 7 || strings.Contains(c.out, "hunter") {
		t.Errorf("%d %v\n%s%s", c.code, err, c.out, c.err)
	}
}

// A directory that is not there is a slip of the pen, not an empty one.
func TestPlanOfflineWithoutTheDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"--from", dir + "/nope", "--manifests", dir}, {"--from", dir, "--manifests", dir + "/nope"}} {
		c := run(t, "", append([]string{"plan"}, args...)...)
		if c.code != exitUsage || !strings.Contains(c.err, dir+"/nope: no such file or directory") {
			t.Errorf("%q: %+v", args, c)
		}
	}
}
