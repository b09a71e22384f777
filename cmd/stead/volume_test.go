package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"stead/reconcile/view"
)

// The example of volumes counts on after its container was removed and purged; a second writer
// waits and says for whom; only volume remove deletes.
func TestVolumeExample(t *testing.T) {
	h := newHost(t)
	text, err := os.ReadFile("../../examples/counter.yaml")
	if err != nil {
		t.Fatal(err)
	}
	h.startDaemon()
	h.write("counter.yaml", string(text))
	h.untilLogged("counter", "start number 1")
	h.write("other.yaml", strings.ReplaceAll(strings.ReplaceAll(string(text), "name: counter", "name: another"), "# A", "# Another"))
	v := h.until("another", "waits", func(v view.Container) bool { return strings.Contains(v.Why+v.Message, "written by") })
	if want := "volume counter is written by counter; several containers may write it if all of them mount it with shared: true"; !strings.Contains(v.Why+v.Message, want) || v.Pid != 0 {
		t.Errorf("got %+v", v)
	}
	if c := h.stead("volume", "remove", "counter", "nonsuch"); c.code != 1 || !strings.Contains(c.err, "remove volume counter: used by counter") || !strings.Contains(c.err, "remove volume nonsuch: no such volume") {
		t.Errorf("remove: %+v", c)
	}
	os.Remove(h.manifests + "/counter.yaml")
	h.ok("apply", "--confirm-removal=counter")
	h.until("another", "has it now", running)
	h.untilLogged("another", "start number 2")
	os.Remove(h.manifests + "/other.yaml")
	h.ok("apply", "--confirm-removal=all")
	h.ok("purge", "counter")
	h.ok("purge", "another")
	h.write("counter.yaml", string(text))
	h.untilLogged("counter", "start number 3")
	var list []volumeView
	if err := json.Unmarshal([]byte(h.ok("volume", "list", "-o", "json")), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v %+v", err, list)
	}
	if v := list[0]; v.Name != "counter" || v.Path != h.dir+"/state/volumes/counter" || v.Size <= 0 || strings.Join(v.UsedBy, " ") != "counter" {
		t.Errorf("listed %+v", v)
	}
	if got := h.ok("volume", "list"); !strings.Contains(got, "counter") || h.ok("volume", "list", "-o", "name") != "counter\n" {
		t.Errorf("listed %s", got)
	}
	if got := h.ok("volume", "inspect", "counter"); !strings.Contains(got, `"apiVersion": "stead/v1"`) || !strings.Contains(got, `"usedBy"`) {
		t.Errorf("inspected %s", got)
	}
	os.Remove(h.manifests + "/counter.yaml")
	h.ok("apply", "--confirm-removal=all")
	if got := h.ok("volume", "remove", "counter"); got != "counter removed\n" {
		t.Errorf("removed: %q", got)
	}
	if _, err := os.Stat(h.dir + "/state/volumes/counter"); err == nil {
		t.Error("it is still there")
	}
}
