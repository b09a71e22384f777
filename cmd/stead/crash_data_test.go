//go:build fault

package main

import (
	"os"
	"strings"
	"time"

	"stead/runtime/roottest"
)

// dataOperations are those of files and volumes.
func dataOperations() []operation {
	source := func(h *testHost, content string) {
		writeFile(h.t, h.dir+"/new.conf", content+"\n")
		if err := os.Rename(h.dir+"/new.conf", h.dir+"/app.conf"); err != nil {
			h.t.Fatal(err)
		}
	}
	create := func(h *testHost) { h.write("job.yaml", dataText(h)) }
	made := func(h *testHost) { source(h, "one"); create(h); untilRuns(h); h.runs("job", 1) }
	has := func(h *testHost, content string) {
		h.t.Helper()
		got := ""
		for end := time.Now().Add(roottest.Patience); got != content+" seed root" && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			got = strings.TrimSpace(h.stead("exec", "job", "sh", "-c", `echo $(cat /srv/app.conf /var/lib/data/file) $(stat -c %U /var/lib/data/file)`).out)
		}
		if got != content+" seed root" {
			h.t.Errorf("it sees %q, want %q", got, content)
		}
		if left, _ := os.ReadDir(h.dir + "/state/volumes"); len(left) != 2 { // and .lock
			h.t.Errorf("volumes: %v", left)
		}
	}
	return []operation{
		{"create with a volume and files", []string{"create-facts-written", "start-recorded", "volume-made", "start-files-written", "start-cgroup-made", "start-launched"},
			func(h *testHost) { source(h, "one") }, create, func(h *testHost) int { untilRuns(h); has(h, "one"); return 1 }},
		{"change a file", []string{"update-files-written", "update-reloaded"}, made,
			func(h *testHost) { source(h, "two") }, func(h *testHost) int {
				has(h, "two")
				untilRuns(h)
				if b, err := os.ReadFile(h.dir + "/count/reloads"); err != nil || len(b) == 0 {
					h.t.Errorf("it was not reloaded: %v", err)
				}
				return 1
			}},
	}
}

// dataText is the job with a volume, which begins with what its root has there, and a file.
func dataText(h *testHost) string {
	t := text(h, 0, "64Mi")
	root := h.dir + "/data-root"
	for _, d := range []string{"usr", "proc", "sys", "dev", "tmp", "etc", "run", "srv", "var/lib/data", "count"} {
		if err := os.MkdirAll(root+"/"+d, 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, l := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+l, root+"/"+l); err != nil && !os.IsExist(err) {
			h.t.Fatal(err)
		}
	}
	writeFile(h.t, root+"/var/lib/data/file", "seed\n")
	writeFile(h.t, root+"/etc/passwd", "root:x:0:0::/:/bin/sh\n")
	t = strings.Replace(t, "rootfs: {host: {}}", "rootfs: {path: "+root+"}", 1)
	t = strings.Replace(t, "mounts: {", "mounts: {/usr: {source: /usr, readOnly: true}, /var/lib/data: {volume: data}, ", 1)
	return t + "  files: {/srv/app.conf: {source: " + h.dir + "/app.conf, onChange: reload}}\n  reload: {exec: [sh, -c, 'echo x >>/count/reloads']}\n"
}
