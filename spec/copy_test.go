package spec

import (
	"strings"
	"testing"
)

// A copy differs in what has to differ; the author's comments, order and quotes stay.
func TestCopyText(t *testing.T) {
	const before = `# the shop
apiVersion: stead/v1
kind: Container
metadata: {labels: {app: web}, name: "web"} # see the wiki
spec:
  rootfs: {host: {}}
  hostname: web
  command: [sleep, web]   # not a name
  network: {mode: none}
  # two volumes
  mounts:
    /data: {volume: web-data, owner: root} # orders
    '/häuser': { "volume": 'shared', readOnly: true, tmpfs: null }
  backup:   # each night

    include:
      - root

  # and this stays
  restart: {policy: never}
`
	after := strings.NewReplacer(`name: "web"`, `name: "shop-2"`, "hostname: web", "hostname: shop-2", "web-data", "shop-2-data", "'shared'", "'shop-2-shared'",
		"  backup:   # each night\n\n    include:\n      - root\n\n", "\n").Replace(before)
	as := &Container{Metadata: Metadata{Name: "shop-2"}, Spec: Spec{Hostname: "shop-2", Mounts: map[string]Mount{"/data": {Volume: "shop-2-data"}, "/häuser": {Volume: "shop-2-shared"}}}}
	if got, ok := CopyText(before, as); !ok || got != after {
		t.Errorf("%v:\n%s\nwant\n%s", ok, got, after)
	}
	for _, text := range []string{
		"",
		"metadata: {name: >\n  web}\n",
		"metadata: {name: \"w\\x65b\"}\nspec: {}\n",
		"metadata: {name: web}\nspec: {backup: {include: [root]}}\n",
		"metadata: {labels: {}}\n",
		"metadata: {name: web}\nspec: {mounts: {/other: {volume: x}}}\n",
	} {
		if got, ok := CopyText(text, as); ok {
			t.Errorf("%q became %q", text, got)
		}
	}
}
