//go:build fault

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/view"
	"stead/runtime/cgroup"
	"stead/runtime/keeper"

	"stead/runtime/roottest"
)

const jobManifest = `apiVersion: stead/v1
kind: Container
metadata: {name: job}
spec:
  rootfs: {host: {}}
  command: [sh, -c, 'echo ran >>/count/job; trap "exit 0" TERM; echo up; i=0; while [ $i -lt $LINES_OUT ]; do echo $i; i=$((i+1)); done; while :; do sleep 1000 & wait; done']
  env: {LINES_OUT: %d}
  mounts: {/count: {source: %s}}
  resources: {memory: %s}
  restart: {policy: never}
  logs: {maxSize: 64Ki, keep: 2}
  network: {mode: none}
`

// operation is one thing a person does, with the points that lie on its way.
type operation struct {
	name   string
	points []string
	before func(h *testHost)     // makes the host ready
	do     func(h *testHost)     // sets it off; does not wait for its end
	after  func(h *testHost) int // waits for its end; how often the job must have run
}

func text(h *testHost, lines int, memory string) string {
	return fmt.Sprintf(jobManifest, lines, h.dir+"/count", memory)
}

var starting = []string{
	"start-recorded", "start-old-forgotten", "start-cgroup-made", "start-pipes-made", "keeper-start-received",
	"keeper-born", "keeper-born-recorded", "launch-0", "launch-1", "launch-2", "launch-3", "launch-4", "keeper-launched", "start-launched",
}

var stopping = []string{
	"stop-begun", "stop-signalled", "keeper-end-drained", "keeper-end-logged", "keeper-end-recorded",
	"stop-ended", "finish-begun", "finish-cgroup-removed", "finish-pipes-removed",
}

// frozenPoints are passed where cgroup v2 has the limits: v1 refuses one that does not
// fit by itself.
func frozenPoints() []string {
	if host, err := cgroup.Detect("stead"); err != nil || host.Mode != cgroup.V2 {
		return nil
	}
	return []string{"limits-frozen"}
}

// ending is a job that ends by itself.
func ending(text string) string {
	return strings.Replace(text, "while :; do sleep 1000 & wait; done", "exit 0", 1)
}

func untilRuns(h *testHost) { h.until("job", "running as declared", isSettled(view.Running)) }

func isSettled(s view.State) func(view.Container) bool {
	return func(v view.Container) bool { return v.State == s && v.Sync == view.Synced }
}

func operations() []operation {
	none := func(*testHost) {}
	create := func(h *testHost) { h.write("job.yaml", text(h, 0, "64Mi")) }
	made := func(h *testHost) { create(h); untilRuns(h); h.runs("job", 1) }
	return []operation{
		{"create", append([]string{"create-dir-made", "create-facts-written"}, starting...), none, create, func(h *testHost) int {
			untilRuns(h)
			return 1
		}},
		{"stop", stopping, made, func(h *testHost) { go h.command("stop", "job").Run() }, func(h *testHost) int {
			h.until("job", "stopped", isSettled(view.Stopped))
			return 1
		}},
		{"update", []string{"update-limits-set"}, made, func(h *testHost) { h.write("job.yaml", text(h, 0, "96Mi")) }, func(h *testHost) int {
			untilRuns(h)
			return 1
		}},
		{"shrink", frozenPoints(), made, func(h *testHost) {
			h.write("job.yaml", text(h, 0, "32Mi"))
			h.untilHit("limits-frozen")
			h.write("job.yaml", text(h, 0, "64Mi")) // so that nothing is left to do, but to thaw it
		}, func(h *testHost) int {
			untilRuns(h)
			h.ok("exec", "job", "true") // refused if it were frozen still
			return 1
		}},
		{"restart", append([]string{"restart-stopped", "restart-facts-written", "start-recorded", "start-launched"}, stopping...), made,
			func(h *testHost) { h.write("job.yaml", text(h, 1, "64Mi")) }, func(h *testHost) int {
				untilRuns(h)
				return 2
			}},
		{"rerun", []string{"restart-stopped", "restart-facts-written", "start-recorded", "start-old-forgotten", "start-cgroup-made"}, func(h *testHost) {
			h.write("job.yaml", ending(text(h, 0, "64Mi")))
			h.until("job", "completed", isSettled(view.Completed))
		}, func(h *testHost) { h.write("job.yaml", ending(text(h, 1, "64Mi"))) }, func(h *testHost) int {
			h.runs("job", 2)
			h.until("job", "completed", isSettled(view.Completed))
			return 2
		}},
		{"rename", append([]string{"rename-stopped", "rename-moved", "rename-facts-written", "start-recorded", "start-launched"}, stopping...), made,
			func(h *testHost) {
				h.write("job.yaml", strings.Replace(text(h, 0, "64Mi"), "  rootfs", "  replicas: 1\n  rootfs", 1))
			}, func(h *testHost) int {
				h.until("job-0", "running as declared", isSettled(view.Running))
				return 2
			}},
		{"remove", append([]string{"remove-stopped", "remove-cgroup-gone", "remove-put-away"}, stopping...), made, func(h *testHost) {
			os.Remove(h.manifests + "/job.yaml")
			go h.command("apply").Run() // does not wait for the settle time
		}, func(h *testHost) int {
			h.ok("wait", "--for=removed", "--timeout=60s", "job")
			return 1
		}},
		{"rotate", []string{"rotate-begun", "rotate-renamed"}, none, func(h *testHost) { h.write("job.yaml", text(h, 6000, "64Mi")) }, func(h *testHost) int {
			untilRuns(h)
			return 1
		}},
	}
}

// TestCrash kills the daemon, the keeper and both between any two steps of each
// operation. Afterwards the host is as declared, the job ran exactly as often as
// it should, its neighbour never noticed, and nothing is left over at the end.
func TestCrash(t *testing.T) {
	t.Parallel() // beside TestTorture
	for _, o := range slices.Concat(operations(), imageOperations(), dataOperations()) {
		for _, point := range o.points {
			for _, who := range []string{"daemon", "keeper", "both"} {
				t.Run(o.name+"/"+point+"/"+who, func(t *testing.T) { crash(t, o, point, who) })
			}
		}
	}
}

func crash(t *testing.T, o operation, point, who string) {
	h := newHost(t)
	h.env = append(h.env, "STEAD_TEST_FAULT_DIR="+h.run) // for the processes of jobs
	os.Mkdir(h.dir+"/count", 0o777)
	h.write("neighbour.yaml", strings.ReplaceAll(strings.ReplaceAll(text(h, 0, "64Mi"), "name: job", "name: neighbour"), "/count/job", "/count/neighbour"))
	h.startDaemon()
	neighbour := h.until("neighbour", "running", isSettled(view.Running))
	o.before(h)

	daemon, holder := h.daemon.Process.Pid, h.keeperPid()
	victims := map[string]string{"daemon": fmt.Sprint(daemon), "keeper": fmt.Sprint(holder), "both": fmt.Sprint(daemon, " ", holder)}[who]
	writeFile(t, h.run+"/fault~", point+" "+victims)
	if err := os.Rename(h.run+"/fault~", h.run+"/fault"); err != nil {
		t.Fatal(err)
	}
	o.do(h)
	h.untilHit(point)
	if who != "keeper" {
		_ = h.daemon.Wait() // it was killed
		h.daemon = nil
		h.startDaemon()
	}
	runs := o.after(h)
	for name, want := range map[string]int{"job": runs, "neighbour": 1} {
		if got := h.runs(name, want); got != want {
			t.Errorf("%s ran %d times, want %d", name, got, want)
		}
	}
	if now := h.until("neighbour", "running", isSettled(view.Running)); now.Pid != neighbour.Pid {
		t.Errorf("the neighbour's pid was %d and is %d", neighbour.Pid, now.Pid)
	}
	h.keeperPid() // another one is up, where it was killed
	// takeDown sees what is left over.
}

// runs counts how often a script began. One that runs may not have come to its
// first line yet.
func (h *testHost) runs(name string, want int) (got int) {
	for end := time.Now().Add(roottest.Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(h.dir + "/count/" + name)
		if got = strings.Count(string(b), "\n"); got >= want {
			break
		}
	}
	return got
}

func (h *testHost) keeperPid() int {
	h.t.Helper()
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(5 * time.Millisecond) {
		pid, _, err := keeper.Client{Run: h.run}.Ping(h.t.Context())
		if err == nil {
			return pid
		}
		if time.Now().After(end) {
			h.t.Fatal(err)
		}
	}
}

func (h *testHost) untilHit(point string) {
	h.t.Helper()
	for end := time.Now().Add(roottest.Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(h.run + "/fault.hit"); err == nil {
			return
		}
	}
	h.t.Fatalf("point %s was never reached\n%s", point, h.endDaemon(syscall.SIGKILL))
}
