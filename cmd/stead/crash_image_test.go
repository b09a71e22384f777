//go:build fault

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stead/runtime/roottest"
)

// mounting are the points between the steps that mount a merged root.
var mounting = []string{"root-upper-made", "keeper-root-mounted", "root-mounted"}

// imageOperations are those in which the root of the job is an image.
func imageOperations() []operation {
	create := func(h *testHost) { h.write("job.yaml", imageText(h, "one")) }
	made := func(h *testHost) {
		importImages(h)
		create(h)
		untilRuns(h)
		h.runs("job", 1)
	}
	remove := func(h *testHost) {
		os.Remove(h.manifests + "/job.yaml")
		h.ok("apply") // does not wait for the settle time
		h.ok("wait", "--for=removed", "--timeout=60s", "job")
	}
	kept := func(h *testHost, entries int, runs int) int {
		untilRuns(h)
		h.runs("job", runs)
		h.checkPrivate(entries)
		return runs
	}
	return []operation{
		{"import an image", []string{"image-layer-unpacked", "image-layer-synced", "image-layer-renamed", "image-layers-complete", "image-recorded"},
			func(h *testHost) { makeImageRoot(h, "one") }, func(h *testHost) {
				h.write("image.yaml", "apiVersion: stead/v1\nkind: Image\nmetadata: {name: one}\nspec: {source: {directory: "+h.dir+"/one}}\n")
				create(h)
			}, func(h *testHost) int {
				untilRuns(h)
				if got := h.ok("image", "list", "-o", "name"); got != "one\n" {
					h.t.Errorf("images: %q", got)
				}
				for part, want := range map[string]int{"layers/*.json": 1, "tmp/*": 0} {
					if found, _ := filepath.Glob(h.dir + "/state/images/" + part); len(found) != want {
						h.t.Errorf("%s: %q, want %d", part, found, want)
					}
				}
				return 1
			}},
		{"create on an image", append(append([]string{"create-dir-made", "create-facts-written", "start-recorded", "volume-made"}, mounting...), "launch-1", "start-launched"),
			importImages, create, func(h *testHost) int { return kept(h, 0, 1) }},
		{"change the image", append([]string{"restart-stopped", "restart-facts-written", "root-unmounted", "reset-unmounted", "reset-begun", "reset-moved", "reset-put-away", "start-recorded"}, mounting...), made,
			func(h *testHost) { h.write("job.yaml", imageText(h, "two")) }, func(h *testHost) int { return kept(h, 1, 2) }},
		{"remove from an image", []string{"remove-cgroup-gone", "root-unmounted", "remove-unmounted", "remove-put-away"}, made, func(h *testHost) {
			os.Remove(h.manifests + "/job.yaml")
			go h.command("apply").Run()
		}, func(h *testHost) int {
			h.ok("wait", "--for=removed", "--timeout=60s", "job")
			return 1
		}},
		{"come back to an image", append([]string{"create-dir-made", "create-facts-written"}, mounting...), func(h *testHost) { made(h); remove(h) },
			create, func(h *testHost) int { return kept(h, 0, 2) }},
	}
}

// imageText is the job on an image. It writes into its root and into the volume of the image how
// often it ran there.
func imageText(h *testHost, image string) string {
	t := strings.Replace(text(h, 0, "64Mi"), "rootfs: {host: {}}", "rootfs: {image: "+image+"}", 1)
	t = strings.Replace(t, "mounts: {", "mounts: {/usr: {source: /usr, readOnly: true}, ", 1)
	return strings.Replace(t, "echo ran >>/count/job;", "echo ran >>/count/job; echo ran >>/srv/root; echo ran >>/data/volume;", 1)
}

// makeImageRoot makes a directory for an image.
func makeImageRoot(h *testHost, name string) string {
	h.t.Helper()
	dir := h.dir + "/" + name
	for _, d := range []string{"usr", "proc", "sys", "dev", "tmp", "etc", "run", "srv", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, l := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+l, filepath.Join(dir, l)); err != nil {
			h.t.Fatal(err)
		}
	}
	writeFile(h.t, dir+"/etc/name", name)
	writeFile(h.t, dir+"/data/volume", "")
	return dir
}

// importImages makes two images, one and two, with a volume at /data.
func importImages(h *testHost) {
	h.t.Helper()
	for _, name := range []string{"one", "two"} {
		h.ok("image", "import", name, makeImageRoot(h, name))
	}
	records, _ := filepath.Glob(h.dir + "/state/images/images/*.json")
	for _, file := range records { // a directory declares no volumes
		var record map[string]any
		b, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(b, &record)
		}
		if err != nil {
			h.t.Fatal(err)
		}
		record["config"] = map[string]any{"volumes": []string{"/data"}}
		b, _ = json.Marshal(record)
		writeFile(h.t, file+"~", string(b)) // the daemon reads it meanwhile
		if err := os.Rename(file+"~", file); err != nil {
			h.t.Fatal(err)
		}
	}
}

// checkPrivate checks the job's private files: its root has what the runs on this image wrote, its
// volume what all runs wrote, and removed/ the private files of so many other images.
func (h *testHost) checkPrivate(entries int) {
	h.t.Helper()
	lines := func(file string) int {
		b, err := os.ReadFile(file)
		if err != nil {
			h.t.Error(err)
		}
		return strings.Count(string(b), "\n")
	}
	dir := h.dir + "/state/containers/job"
	runs := lines(h.dir + "/count/job")
	// What a run writes last.
	for end := time.Now().Add(roottest.Patience); lines(dir+"/volumes/data/volume") < runs && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	resets, _ := filepath.Glob(h.dir + "/state/removed/job@*.reset*")
	if len(resets) != entries {
		h.t.Errorf("%d entries of private files that were replaced: %q, want %d", len(resets), resets, entries)
	}
	elsewhere := 0
	for _, r := range resets {
		elsewhere += lines(r + "/upper/srv/root")
	}
	if here := lines(dir + "/upper/srv/root"); here != runs-elsewhere || here == 0 {
		h.t.Errorf("%d runs wrote into the root, %d into others, want %d together", here, elsewhere, runs)
	}
	if here := lines(dir + "/volumes/data/volume"); here != runs {
		h.t.Errorf("%d runs wrote into the volume, want %d", here, runs)
	}
	if here := lines(dir + "/root/srv/root"); here != runs-elsewhere {
		h.t.Errorf("the host sees %d runs in the merged root, want %d", here, runs-elsewhere)
	}
	if left, _ := filepath.Glob(dir + "/reset~"); len(left) > 0 {
		h.t.Errorf("left over: %q", left)
	}
}
