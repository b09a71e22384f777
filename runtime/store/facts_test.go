package store

import (
	"testing"

	"stead/spec"
)

// What a release before the language's last changes of shape wrote is read as it was
// meant: an upgrade restarts no container whose manifest says the same in the new words.
func TestFactsOfBefore(t *testing.T) {
	f, err := ReadFacts("testdata/before-language")
	if err != nil {
		t.Fatal(err)
	}
	docs := spec.Parser{Host: "node1"}.Parse("web.yaml", []byte(`apiVersion: stead/v1
kind: Container
metadata: {name: web, labels: {app: web}}
spec:
  rootfs: {host: {}}
  command: [sh, -c, "echo ${X}"]
  env: {TZ: UTC}
  ulimits: {nofile: 65536, core: 0}
  resources: {memory: 256Mi, cpu: 500m}
  mounts:
    /data: {source: /srv/data, readOnly: true}
    /tmp: {tmpfs: {size: 16Mi}}
  network: {mode: none}
  security: {capabilities: {add: [NET_ADMIN], drop: [MKNOD]}}
  devices: {/dev/fuse: {}, /dev/kvm: {access: r}}
  restart: {policy: on-failure, maxRetries: 5}
  rerun: on-boot
`))
	if docs[0].Errors != nil {
		t.Fatal(docs[0].Errors)
	}
	if changes := spec.Diff(f.Manifest, docs[0].Container); changes != nil {
		t.Errorf("an upgrade would change the container: %v", changes)
	}
	dir := t.TempDir()
	if err := f.Write(dir); err != nil {
		t.Fatal(err)
	}
	again, err := ReadFacts(dir)
	if err != nil || spec.Diff(again.Manifest, f.Manifest) != nil {
		t.Errorf("written and read again it differs: %v, %v", spec.Diff(again.Manifest, f.Manifest), err)
	}
}
