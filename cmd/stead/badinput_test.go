package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"stead/reconcile/view"
)

// badInput is a host on which every container is well, to begin with; each row
// of the tests breaks one thing and must find all others as they were.
type badInput struct {
	*testHost
	before map[string]view.Container
	logged []logLine // what the daemon's log must have at the end
}

// logLine is what the log must tell: about a file, or about a container.
type logLine struct{ about, text string }

func newBadInput(t *testing.T) *badInput {
	return &badInput{testHost: newHost(t), before: map[string]view.Container{}}
}

// begin starts a daemon whose manifest directory is not there: the first fault of
// all. The directory comes as a whole, and all in it comes up.
func (h *badInput) begin(manifests map[string]string) {
	h.t.Helper()
	for name, text := range manifests {
		h.write(name+".yaml", text)
	}
	if err := os.Rename(h.manifests, h.dir+"/away"); err != nil {
		h.t.Fatal(err)
	}
	h.startDaemon("--log-format", "json")
	if views := h.views(); len(views) != 0 {
		h.t.Errorf("no directory, ps lists %+v", views)
	}
	if c := h.stead("validate"); c.code != exitInvalid || !strings.HasPrefix(c.err, h.manifests+": no such file or directory\n") {
		h.t.Errorf("no directory, validate: %+v", c)
	}
	if c := h.stead("ps"); c.code != 0 || !strings.Contains(c.err, "manifest directory "+h.manifests+" is missing\n") {
		h.t.Errorf("ps with no manifest directory: %+v", c)
	}
	if c := h.stead("status"); c.code != exitDiffers || !strings.Contains(c.out, h.manifests+": missing\n") {
		h.t.Errorf("no directory, status: %+v", c)
	}
	h.logged = append(h.logged, logLine{h.manifests, "no such file or directory"}, logLine{h.manifests, "manifests are valid again"})
	if err := os.Rename(h.dir+"/away", h.manifests); err != nil {
		h.t.Fatal(err)
	}
	for name := range manifests {
		h.before[name] = h.until(name, "running as declared", well)
	}
}

// row begins a row. One that failed has ended the daemon, to show its log.
func (h *badInput) row(t *testing.T) {
	h.within(t)
	if h.daemon == nil {
		h.startDaemon("--log-format", "json")
	}
}

// mend waits for a container to be as declared again, and for its old process.
func (h *badInput) mend(name string) {
	h.t.Helper()
	if v := h.until(name, "as declared again", well); v.Pid != h.before[name].Pid {
		h.t.Errorf("%s: process %d became %d", name, h.before[name].Pid, v.Pid)
		h.before[name] = v
	}
}

func well(v view.Container) bool {
	return v.State == view.Running && v.Sync == view.Synced
}

// othersRunOn fails for each container but these that is not as it was.
func (h *badInput) othersRunOn(but ...string) {
	h.t.Helper()
	now := map[string]view.Container{}
	for _, v := range h.views() {
		now[v.Name] = v
	}
	for _, name := range but {
		delete(now, name)
	}
	for name, before := range h.before {
		if v, there := now[name]; there && (!well(v) || v.Pid != before.Pid || v.Restarts != 0) {
			h.t.Errorf("%s was touched: process %d, now %+v", name, before.Pid, v)
		}
		delete(now, name)
	}
	for name, v := range now {
		h.t.Errorf("nobody asked for %s: %+v", name, v)
	}
}

// cut shortens a file in place, as a full disk or a crash leaves it.
func (h *badInput) cut(file string, size int) {
	h.t.Helper()
	if err := os.Truncate(h.manifests+"/"+file, int64(size)); err != nil {
		h.t.Fatal(err)
	}
}

// endAndReadLog ends the daemon and looks for each line that is due.
func (h *badInput) endAndReadLog() {
	h.t.Helper()
	log := h.endDaemon(syscall.SIGTERM)
	var have []logLine
	for line := range strings.Lines(log) {
		var l struct{ Msg, File, Container, Error, Cause string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			h.t.Fatalf("a line of the log is no JSON: %q: %v\n%s", line, err, log)
		}
		have = append(have, logLine{l.File + l.Container, strings.Join([]string{l.Msg, l.Cause, l.Error}, "\n")})
	}
	for _, want := range h.logged {
		if !slices.ContainsFunc(have, func(l logLine) bool { return l.about == want.about && strings.Contains(l.text, want.text) }) {
			h.t.Errorf("the log does not tell %+v\n%s", want, log)
		}
	}
}

// mended is put before a manifest that means again what it meant.
const mended = "# mended\n"

const limited = "  resources: {memory: 64Mi}\n"

// What is wrong with a manifest is told with its place in ps, in validate and in
// the log; its container runs on with the same process, and so do all others. It
// is as declared again once the manifest means again what it meant.
func TestBadManifests(t *testing.T) {
	replace := func(old, new string) func(*badInput, string, string) {
		return func(h *badInput, file, good string) { h.write(file, strings.Replace(good, old, new, 1)) }
	}
	rows := []struct {
		summary string
		name    string // of the container, and of its file
		harm    func(h *badInput, file, good string)
		want    string // the error, behind the file's name
	}{
		{"an unknown field", "field", replace("network:", "netwrok:"),
			":7:3: spec.netwrok: unknown field; did you mean network?"},
		{"no name", "nameless", replace("name: nameless, ", ""),
			":3:1: metadata.name: missing; want a name such as web"},
		{"a bad quantity", "quantity", replace("64Mi", "64M"), `:8:23: spec.resources.memory: found "64M": "M" means different things in different tools; write 64Mi (1024-based)`},
		{"a file cut to nothing", "empty", func(h *badInput, file, _ string) { h.cut(file, 0) },
			":1: holds no manifest (the file is empty or has only comments)"},
		{"a file cut to half", "half", func(h *badInput, file, good string) { h.cut(file, len(good)/2) }, ":6: not valid YAML: found unexpected end of stream"},
	}
	manifests := map[string]string{"bystander": manifest("bystander", ""), "held": manifest("held", limited), "slow": manifest("slow", limited)}
	for _, row := range rows {
		manifests[row.name] = manifest(row.name, limited)
	}
	h := newBadInput(t)
	h.begin(manifests)
	for _, row := range rows {
		t.Run(row.summary, func(t *testing.T) {
			h.row(t)
			file, path := row.name+".yaml", h.manifests+"/"+row.name+".yaml"
			row.harm(h, file, manifests[row.name])
			v := h.until(row.name, "in error", func(v view.Container) bool { return v.Sync == view.SyncError })
			if v.Message != path+row.want || v.Why != file+row.want {
				t.Errorf("message %q\nwhy %q\nwant %q", v.Message, v.Why, path+row.want)
			}
			if v.State != view.Running || v.Pid != h.before[row.name].Pid || v.Reason != view.ReasonInvalidManifest {
				t.Errorf("it does not run on as process %d: %+v", h.before[row.name].Pid, v)
			}
			if c := h.stead("validate", path); c.code != exitInvalid || !strings.HasPrefix(c.err, path+row.want+"\n") {
				t.Errorf("validate: %+v", c)
			}
			h.othersRunOn(row.name)
			h.logged = append(h.logged, logLine{path, path + row.want}, logLine{path, "manifests are valid again"})
			h.write(file, mended+manifests[row.name])
			h.mend(row.name)
			h.othersRunOn()
		})
	}
	t.Run("a name that a container has", h.stolenName)
	t.Run("a name that two new manifests claim", h.sharedName)
	t.Run("a slow writer", h.slowWriter)
	t.Run("the directory vanishes", h.lostDirectory)
	h.endAndReadLog()
}

// stolenName: who has a name keeps it.
func (h *badInput) stolenName(t *testing.T) {
	h.row(t)
	thief, held := h.manifests+"/a-thief.yaml", h.manifests+"/held.yaml"
	want := thief + `:3:18: metadata.name: "held" is taken by ` + held + ":1: one name, one manifest; rename or delete one"
	h.write("a-thief.yaml", manifest("held", ""))
	v := h.until(thief, "refused", func(v view.Container) bool { return v.State == view.Invalid })
	if v.Message != want || v.Sync != view.SyncError || v.Reason != view.ReasonInvalidManifest || v.Pid != 0 {
		t.Errorf("want %q, got %+v", want, v)
	}
	// Who was first is the daemon's to know: validate tells of the second one.
	want2 := held + `:3:18: metadata.name: "held" is taken by ` + thief + ":1: one name, one manifest; rename or delete one\n"
	if c := h.stead("validate", thief, held); c.code != exitInvalid || !strings.HasPrefix(c.err, want2) {
		t.Errorf("validate: %+v", c)
	}
	h.othersRunOn(thief)
	h.logged = append(h.logged, logLine{thief, want}, logLine{thief, "manifests are valid again"})
	os.Remove(thief)
	h.mend("held")
	h.gone(thief)
	h.othersRunOn()
}

// sharedName: of two that claim a name at once neither gets it.
func (h *badInput) sharedName(t *testing.T) {
	h.row(t)
	if err := os.Mkdir(h.dir+"/twins", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, h.dir+"/twins/a.yaml", manifest("twin", ""))
	writeFile(t, h.dir+"/twins/b.yaml", manifest("twin", ""))
	if err := os.Rename(h.dir+"/twins", h.manifests+"/twins"); err != nil { // both at once
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(h.manifests + "/twins") }) // the host clears one level
	a, b := h.manifests+"/twins/a.yaml", h.manifests+"/twins/b.yaml"
	want := a + `:3:18: metadata.name: "twin" is declared by ` + b + ":1 too: one name, one manifest; neither is created until one is renamed or deleted"
	v := h.until("twin", "refused", func(v view.Container) bool { return v.State == view.Invalid })
	if v.Message != want || v.Sync != view.SyncError || v.Reason != view.ReasonInvalidManifest || v.Pid != 0 {
		t.Errorf("want %q, got %+v", want, v)
	}
	if c := h.stead("validate", h.manifests+"/twins"); c.code != exitInvalid || !strings.HasPrefix(c.err, b+`:3:18: metadata.name: "twin" is taken by `+a+":1: ") {
		t.Errorf("validate: %+v", c)
	}
	h.othersRunOn("twin")
	h.logged = append(h.logged, logLine{a, want}, logLine{b, "manifests are valid again"})
	os.Remove(b)
	h.until("twin", "running", well)
	h.othersRunOn("twin")
	os.RemoveAll(h.manifests + "/twins")
	h.ok("apply")
	h.othersRunOn()
}

// slowWriter: what is written drop by drop is read when it is all there.
func (h *badInput) slowWriter(t *testing.T) {
	h.row(t)
	path := h.manifests + "/slow.yaml"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	better := strings.Replace(manifest("slow", limited), "64Mi", "80Mi", 1)
	v := h.until("slow", "waiting for the writer", func(v view.Container) bool {
		if v.Pid != h.before["slow"].Pid || v.State != view.Running {
			t.Fatalf("it does not run on: %+v", v)
		}
		if len(better) > 1 { // drop by drop
			write(t, f, better[:1])
			better = better[1:]
		}
		return v.Reason == view.ReasonWaitingForWriter
	})
	if v.Sync != view.OutOfSync || v.Why != "waiting for the writer of slow.yaml" || v.Message != v.Why {
		t.Errorf("%+v", v)
	}
	if c := h.stead("validate"); c.code != exitInvalid || !strings.Contains(c.err, path+": another process has it open for writing\n") {
		t.Errorf("validate: %+v", c)
	}
	h.othersRunOn("slow")
	h.logged = append(h.logged, logLine{path, "manifest not read yet: another process has it open for writing"})
	write(t, f, better)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	h.until("slow", "as declared, with the new limit", func(v view.Container) bool {
		return well(v) && v.Pid == h.before["slow"].Pid && h.limit(t, "slow") == 80<<20
	})
	h.othersRunOn()
}

// lostDirectory: a directory that goes takes nothing along.
func (h *badInput) lostDirectory(t *testing.T) {
	h.row(t)
	if err := os.Rename(h.manifests, h.dir+"/away"); err != nil {
		t.Fatal(err)
	}
	for name, before := range h.before {
		v := h.until(name, "held", func(v view.Container) bool { return v.Sync == view.Held })
		if v.State != view.Running || v.Pid != before.Pid || v.Reason != view.ReasonRemovalHeld ||
			!strings.HasPrefix(v.Message, "directory "+h.manifests+" is missing") {
			t.Errorf("it does not run on as process %d: %+v", before.Pid, v)
		}
		h.logged = append(h.logged, logLine{name, v.Message}, logLine{name, "no longer held"})
	}
	if c := h.stead("validate"); c.code != exitInvalid || !strings.HasPrefix(c.err, h.manifests+": no such file or directory\n") {
		t.Errorf("validate: %+v", c)
	}
	h.logged = append(h.logged, logLine{h.manifests, "no such file or directory"}, logLine{h.manifests, "manifests are valid again"})
	if err := os.Rename(h.dir+"/away", h.manifests); err != nil {
		t.Fatal(err)
	}
	for name := range h.before {
		h.mend(name)
	}
	h.othersRunOn()
}

func write(t *testing.T, f *os.File, text string) {
	t.Helper()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// gone waits until ps lists nothing of that name.
func (h *badInput) gone(name string) {
	h.t.Helper()
	for range 1500 {
		there := false
		for _, v := range h.views() {
			there = there || v.Name == name
		}
		if !there {
			return
		}
	}
	h.t.Errorf("%s is still listed", name)
}
