package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/reconcile/view"
)

// cloneable is a manifest with comments, a volume and backups, whose container has an identity.
const cloneable = `# The shop of the city.
apiVersion: stead/v1
kind: Container
metadata: {name: web}   # see the wiki
spec:
  rootfs: {host: {}}
  command: [sh, -c, "test -e /etc/machine-id || { echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa > /etc/machine-id; echo precious > /var/file; echo order > /orders/1; }; echo I am $STEAD_NAME; while :; do sleep 1; done"]
  mounts: {/orders: {volume: web-orders}} # one a day
  network: {mode: none}
  backup: {include: [volumes]}
  stop: {signal: KILL}
`

// A clone has the data of its original, volumes of its own, and another identity; its manifest is
// the author's. What it changed is said, and nothing is shared.
func TestClone(t *testing.T) {
	h := newHost(t)
	text := strings.Replace(cloneable, "  backup: {include: [volumes]}\n", "  backup:\n    include: [volumes]\n", 1)
	h.write("web.yaml", text)
	h.ok("apply")
	h.untilLogged("web", "I am web")
	for _, c := range [][]string{{"clone", "nobody", "web2"}, {"clone", "web", "web"}, {"clone", "web", "Web2"}} {
		if got := h.stead(c...); got.code == 0 {
			t.Errorf("%v: %+v", c, got)
		}
	}
	h.ok("stop", "web") // a hybrid host may not freeze
	out := h.ok("clone", "web", "web2", "--manifests-dir", h.manifests)
	for _, want := range []string{"web2 has a copy of the data of web", "/etc/machine-id", "/orders has the volume web2-orders, a copy of web-orders", "it has no backup", h.manifests + "/web2.yaml written"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	want := strings.NewReplacer("{name: web} ", "{name: web2} ", "web-orders", "web2-orders", "  backup:\n    include: [volumes]\n", "").Replace(text)
	if b, err := os.ReadFile(h.manifests + "/web2.yaml"); string(b) != want {
		t.Errorf("%v:\n%s\nwant\n%s", err, b, want)
	}
	h.ok("start", "web")
	h.ok("apply")
	h.until("web2", "running", func(v view.Container) bool { return v.State == view.Running && v.Sync == view.Synced })
	h.untilLogged("web2", "I am web2")
	inside := func(name string) string {
		return h.ok("exec", name, "sh", "-c", "cat /var/file /orders/1 /etc/hostname")
	}
	if got := inside("web2"); got != "precious\norder\nweb2\n" {
		t.Errorf("the clone has %q", got)
	}
	id := func(name string) string { return h.ok("exec", name, "cat", "/etc/machine-id") }
	if a, b := id("web"), id("web2"); a != strings.Repeat("a", 32)+"\n" || b == a || len(b) != 33 {
		t.Errorf("machine-ids %q and %q", a, b)
	}
	h.ok("exec", "web2", "sh", "-c", "echo changed | tee /var/file > /orders/1")
	if got := inside("web"); got != "precious\norder\nweb\n" {
		t.Errorf("the original has %q", got)
	}
	if c := h.stead("clone", "web", "web2"); c.code == 0 || !strings.Contains(c.err, "there is a container web2 already") {
		t.Errorf("a second time: %+v", c)
	}
	h.ok("stop", "web")
	h.ok("clone", "--keep-identity", "web", "web3", "--manifests-dir", h.manifests)
	h.ok("apply")
	h.untilLogged("web3", "I am web3")
	if a, b := id("web2"), id("web3"); b != strings.Repeat("a", 32)+"\n" {
		t.Errorf("machine-ids %q and %q", a, b)
	}
	if left, _ := filepath.Glob(h.dir + "/state/restore/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A container on an image is cloned with its changes alone; what two containers would write is not.
func TestCloneOfAnImage(t *testing.T) {
	h := newHost(t)
	h.ok("image", "import", "tiny", h.imageRoot("tiny"))
	h.write("web.yaml", ofImage("web", "tiny", ""))
	h.write("path.yaml", strings.Replace(ofImage("path", "tiny", ""), "{image: tiny}", "{path: "+h.imageRoot("path")+"}", 1))
	h.write("bind.yaml", strings.Replace(keeping, "name: web", "name: bind", 1)+"  mounts: {/mnt: {source: "+h.imageRoot("bind")+"}}\n")
	h.ok("apply")
	h.ok("exec", "web", "sh", "-c", "echo mine > /data/which; echo more > /more")
	h.ok("stop", "web")
	h.ok("stop", "bind")
	h.ok("stop", "path")
	h.ok("clone", "web", "web2", "--manifests-dir", h.manifests)
	h.ok("apply")
	h.untilLogged("web2", "I am web2 of mine")
	if got := h.ok("exec", "web2", "cat", "/more"); got != "more\n" {
		t.Errorf("%q", got)
	}
	for name, why := range map[string]string{"path": "the root of path is the directory", "bind": "the copy would write there too"} {
		if c := h.stead("clone", name, name+"2", "--manifests-dir", h.manifests); c.code != 1 || !strings.Contains(c.err, why) {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if left, _ := os.ReadDir(h.manifests); len(left) != 4 {
		t.Errorf("manifests: %v", left)
	}
}
