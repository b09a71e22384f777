package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"stead/reconcile/view"
)

// evil is a manifest by which a container's root becomes the host's: it shows a
// secret of the host.
func (h *testHost) evil(name string) string {
	writeFile(h.t, h.dir+"/secret", "the host's secret\n")
	return fmt.Sprintf("apiVersion: stead/v1\nkind: Container\nmetadata: {name: %s}\nspec:\n  rootfs: {host: {}}\n"+
		"  command: [cat, /host/secret]\n  restart: {policy: never}\n  security: {userns: host}\n"+
		"  mounts: {/host: {source: %s, readOnly: true}}\n  network: {mode: none}\n", name, h.dir)
}

// writer is a container whose root writes a file, and says when that is done.
func writer(name, mounts, path, text string) string {
	text = strings.ReplaceAll(text, "\n", "\\n")
	return strings.Replace(manifest(name, "  env: {TEXT: '"+text+"'}\n  mounts: {"+mounts+"}\n"),
		"while :", `printf "$TEXT" > `+path+`; echo "wrote $?"; while :`, 1)
}

// A container that could write into a manifest directory would declare another
// one that is the host's root: its manifest is refused.
func TestBindNeverBecomesHostRoot(t *testing.T) {
	h := newHost(t)
	data := h.manifests + "/shop/data"
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	h.write("shop/shop.yaml", writer("shop", "/data: {source: "+data+"}", "/data/evil.yaml", h.evil("evil")))
	c := h.stead("apply")
	if strings.Contains(h.stead("logs", "shop").out, "wrote 0") {
		t.Error("the container wrote into the manifest directory")
	}
	h.stead("apply")
	if out := h.stead("logs", "evil").out; out != "" {
		t.Errorf("what a container wrote was started as a manifest, and shows %q", out)
	}
	want := "shop/shop.yaml:9:28: spec.mounts[/data].source: found " + data + ": it lies in the manifest directory " + h.manifests + ", and a container that can write there can become root on this host"
	for what, got := range map[string]call{"apply": c, "plan": h.stead("plan"), "validate": h.stead("validate"), "validate of the directory": h.stead("validate", h.manifests)} {
		if got.code != exitInvalid || !strings.Contains(got.err, want) {
			t.Errorf("%s: %+v, want code %d and %s", what, got, exitInvalid, want)
		}
	}
	// What runs already is left as it is.
	if err := os.Remove(h.manifests + "/shop/shop.yaml"); err != nil {
		t.Fatal(err)
	}
	h.write("web.yaml", manifest("web", ""))
	h.ok("apply")
	before := h.until("web", "running", running)
	h.write("web.yaml", manifest("web", "  mounts: {/data: {source: "+data+"}}\n"))
	if c := h.stead("apply"); c.code != exitInvalid {
		t.Errorf("apply: %+v", c)
	}
	if v := h.until("web", "running", running); v.Pid != before.Pid || v.Sync != view.SyncError || !strings.Contains(v.Why, "it lies in the manifest directory") {
		t.Errorf("web: %+v", v)
	}
}

// What a container could write once is no manifest and no configuration later: not
// when the container is removed, nor by links, another name, drop-ins or a reload that
// names it, and not after a restart of the daemon. What ran before runs on.
func TestOnceWritableIsNotRead(t *testing.T) {
	h := newHost(t)
	data := h.dir + "/srv/data"
	for _, dir := range []string{data, h.manifests + "/shop"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, h.dir+"/config.yaml", "apiVersion: stead/v1\nkind: Config\n")
	h.env = append(h.env, "STEAD_CONFIG="+h.dir+"/config.yaml")
	h.startDaemon()
	h.write("bystander.yaml", manifest("bystander", ""))
	h.write("shop/shop.yaml", writer("shop", "/data: {source: "+data+"}", "/data/evil.yaml", h.evil("evil")))
	h.until("shop", "running", running)
	before := h.until("bystander", "running", running)
	h.untilLogged("shop", "wrote 0")
	if err := os.Remove(h.manifests + "/shop/shop.yaml"); err != nil {
		t.Fatal(err)
	}
	h.ok("apply")
	refused := "a container can write to " + data + ", or once could: nothing in it is read as a manifest"
	look := func(what, text string) {
		t.Helper()
		for verb, c := range map[string]call{"plan": h.stead("plan"), "validate": h.stead("validate"), "status": h.stead("status")} {
			if out := c.out + c.err; !strings.Contains(out, text) {
				t.Errorf("%s: %s does not say %q: %+v", what, verb, text, c)
			}
		}
		if v := h.until("bystander", "running", running); v.Pid != before.Pid || v.Restarts != 0 {
			t.Errorf("%s: what ran does not run on: %+v", what, v)
		}
		if out := h.stead("logs", "evil").out; out != "" {
			t.Fatalf("%s: what a container wrote was started as a manifest, and shows %q", what, out)
		}
	}
	for name, target := range map[string]string{"linked": data, "evil.yaml": data + "/evil.yaml", "bystander.container.d": data} {
		if err := os.Symlink(target, h.manifests+"/"+name); err != nil {
			t.Fatal(err)
		}
		h.stead("apply")
		look(name, refused)
		if err := os.Remove(h.manifests + "/" + name); err != nil {
			t.Fatal(err)
		}
	}
	h.ok("apply")
	h.endDaemon(syscall.SIGKILL)
	if err := os.Rename(data, h.manifests+"/shop/moved"); err != nil {
		t.Fatal(err)
	}
	h.startDaemon()
	h.stead("apply")
	look("moved", "a container can write to "+h.manifests+"/shop/moved, or once could")
	if err := os.Rename(h.manifests+"/shop/moved", data); err != nil {
		t.Fatal(err)
	}
	h.ok("apply")
	// A reload can't make it a directory of manifests, and what it adds is kept from
	// containers at once.
	h.env = append(h.env, "STEAD_MANIFESTS=")
	h.endDaemon(syscall.SIGTERM)
	writeFile(t, h.dir+"/config.yaml", "apiVersion: stead/v1\nkind: Config\nmanifests: ["+h.manifests+"]\n")
	h.startDaemon()
	writeFile(t, h.dir+"/config.yaml", "apiVersion: stead/v1\nkind: Config\nmanifests: ["+h.manifests+", "+data+"]\n")
	h.ok("reload")
	look("a reload", data+": "+refused)
	if c := h.stead("plan", "--config", data+"/evil.yaml"); c.code != exitUsage || !strings.Contains(c.err, "a container can write to "+data+", or once could; copy the file") {
		t.Errorf("a configuration that a container wrote: %+v", c)
	}
	h.write("late.yaml", manifest("late", "  mounts: {/data: {source: "+data+"/sub}}\n"))
	h.until("late", "refused", func(v view.Container) bool {
		return strings.Contains(v.Message, "spec.mounts[/data].source: found "+data+"/sub: it lies in the manifest directory "+data)
	})
	writeFile(t, h.dir+"/config.yaml", "apiVersion: stead/v1\nkind: Config\nmanifests: ["+h.manifests+"]\n") // what is left can be removed
}
