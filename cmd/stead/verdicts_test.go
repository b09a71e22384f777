package main

import (
	"os"
	"strings"
	"testing"

	"stead/reconcile/view"
)

// plan, status and apply agree about one host at one moment.
func TestVerdictsAgree(t *testing.T) {
	h := newHost(t)
	verdicts := func(when string, plan, status, apply int) {
		t.Helper()
		for verb, want := range map[string]int{"plan": plan, "status": status, "apply": apply} {
			if c := h.stead(verb); c.code != want {
				t.Errorf("%s: %s exits with %d, want %d: %+v", when, verb, c.code, want, c)
			}
		}
	}
	ends := func(name, command, policy string) string {
		s := strings.Replace(manifest(name, "  restart: "+policy+"\n"), "command: [sh, -c, ", "command: [sh, -c, '"+command+"', ", 1)
		return s
	}
	h.write("web.yaml", manifest("web", ""))
	h.ok("apply")
	verdicts("as declared", 0, 0, 0)

	h.write("job.yaml", ends("job", "exit 3", "{policy: never}"))
	h.stead("apply") // exits with 1 if the job has failed by its end
	job := h.until("job", "failed", func(v view.Container) bool { return v.State == view.Failed })
	if job.Sync != view.Synced || !job.Over {
		t.Errorf("a failed job: %+v", job)
	}
	verdicts("a job has failed long ago", 0, 0, 0)
	if c := h.stead("status"); !strings.Contains(c.out, "jobs that failed") || !strings.Contains(c.out, "job: exit code 3, restart policy never") {
		t.Errorf("status: %+v", c)
	}
	if c := h.stead("apply", "-o", "json"); strings.Contains(c.out, `"failed": true`) {
		t.Errorf("apply: %+v", c)
	}

	h.write("service.yaml", ends("service", "exit 4", "{policy: always, maxRetries: 1, backoff: {initial: 1ms, max: 1h}}"))
	h.stead("apply")
	for given := false; !given; { // without a daemon each apply is a try
		h.stead("apply")
		for _, v := range h.views() {
			given = given || v.Name == "service" && v.State == view.Failed
		}
	}
	verdicts("a service was given up", 3, 3, 1)
	if c := h.stead("plan"); !strings.Contains(c.out, "no action for service: exit code 4, given up after 1 retry") {
		t.Errorf("plan: %+v", c)
	}
	os.Remove(h.manifests + "/service.yaml")
	h.ok("apply")

	h.write("service.yaml", ends("service", "exit 4", "{policy: always, backoff: {initial: 1h, max: 1h}}"))
	h.stead("apply")
	h.until("service", "in back-off", func(v view.Container) bool { return v.State == view.BackOff })
	verdicts("a service is in back-off", 3, 3, 1)
	os.Remove(h.manifests + "/service.yaml")
	h.ok("apply")

	h.write("bad.yaml", "apiVersion: stead/v1\nkind: Container\n")
	verdicts("a manifest is broken", 4, 3, 4)
	os.Remove(h.manifests + "/bad.yaml")
	verdicts("all is well again", 0, 0, 0)
	if err := os.Rename(h.manifests, h.dir+"/away"); err != nil {
		t.Fatal(err)
	}
	verdicts("the manifest directory is missing", 4, 3, 4)
	if err := os.Rename(h.dir+"/away", h.manifests); err != nil {
		t.Fatal(err)
	}
}
