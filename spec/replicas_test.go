package spec

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const replicated = head + `  replicas: 3
  rootfs: {path: "/srv/web-${stead.index}"}
  network: {mode: none}
  command: [run, "${stead.name}", "$${stead.index}"]
  env: {SHARD: "${stead.index}"}
  mounts: {"/data/${stead.index}": {source: "/srv/data/${stead.index}"}}
`

func TestReplicas(t *testing.T) {
	doc := parseOne(t, replicated)
	if len(doc.Errors) > 0 || len(doc.Replicas) != 3 || doc.Container != doc.Replicas[0].Container || doc.Name != "web" {
		t.Fatalf("got %+v", doc)
	}
	for i, c := range doc.Replicas {
		s, name := c.Spec, fmt.Sprintf("web-%d", i)
		got := []any{c.Metadata.Name, s.Hostname, s.Rootfs.Path, s.Command[1], s.Command[2], string(s.Env["SHARD"]), s.Mounts[fmt.Sprintf("/data/%d", i)].Source}
		want := []any{name, name, "/srv/" + name, name, "${stead.index}", fmt.Sprint(i), fmt.Sprintf("/srv/data/%d", i)}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("replica %d: got %q, want %q", i, got, want)
		}
		if *c.Replica != (Replica{"web", i}) || s.Replicas != nil {
			t.Errorf("replica %d: got %+v of %v", i, c.Replica, s.Replicas)
		}
	}
	if n := len(doc.Writable); n != 6 { // each root and each source
		t.Errorf("got %d writable paths: %+v", n, doc.Writable)
	}
	doc.Replicas[0].Spec.Env["SHARD"] = "changed"
	if doc.Replicas[1].Spec.Env["SHARD"] != "1" {
		t.Error("two replicas share a map")
	}
}

// Another number of replicas is no change of those that stay.
func TestReplicasDoNotKnowTheirNumber(t *testing.T) {
	three, five := parseOne(t, replicated), parseOne(t, strings.Replace(replicated, "replicas: 3", "replicas: 5", 1))
	for i, c := range three.Replicas {
		if other := five.Replicas[i]; c.Fingerprint != other.Fingerprint || len(Diff(c.Container, other.Container)) > 0 {
			t.Errorf("%s differs: %v", c.Metadata.Name, Diff(c.Container, other.Container))
		}
	}
}

// A container named web-1 of a manifest of its own is not the replica web-1: its environment
// differs.
func TestReplicaIsAChange(t *testing.T) {
	own := valid(t, head+minimal)
	replica := clone(own)
	replica.Replica = &Replica{"web", 1}
	if got := fmt.Sprint(Diff(own, replica)); got != "[replica (absent) → 1 of web]" {
		t.Errorf("got %s", got)
	}
}

func TestReplicaErrors(t *testing.T) {
	long := strings.Repeat("a", 60)
	for _, row := range []struct{ summary, old, new, want string }{
		{"a writable root for all", `{path: "/srv/web-${stead.index}"}`, "{path: /srv/web}",
			"spec.rootfs.path: is the same directory for all replicas; write ${stead.index} where they differ, as in /srv/web-${stead.index}, or readOnly: true"},
		{"a read-only root for all", `{path: "/srv/web-${stead.index}"}`, "{path: /srv/web, readOnly: true}", ""},
		{"a root by name", `web-${stead.index}"}`, `${stead.name}"}`, ""},
		{"one replica with a writable root", "replicas: 3\n  rootfs: {path: \"/srv/web-${stead.index}\"}", "replicas: 1\n  rootfs: {path: /srv/web}", "spec.rootfs.path: is the same directory for all replicas"},
		{"a name that gets too long", "replicas: 3", "replicas: 1000", ""},
		{"an error in each is one", "network: {mode: none}", "network: {mode: none}\n  user: -1", `spec.user: found "-1": want USER or USER:GROUP, each a name or an id`},
	} {
		t.Run(row.summary, func(t *testing.T) {
			text := strings.Replace(replicated, row.old, row.new, 1)
			if text == replicated {
				t.Fatal("nothing was replaced")
			}
			doc := parseOne(t, text)
			var got []string
			for _, e := range doc.Errors {
				got = append(got, e.Path+": "+e.Message)
			}
			if all := strings.Join(got, "|"); row.want == "" && all != "" || !strings.HasPrefix(all, row.want) || len(got) > 1 {
				t.Errorf("got %s, want %s", all, row.want)
			}
			if (doc.Replicas == nil) != (len(got) > 0) {
				t.Errorf("%d replicas beside %d errors", len(doc.Replicas), len(got))
			}
		})
	}
	text := strings.Replace(strings.Replace(replicated, "name: web", "name: "+long, 1), "replicas: 3", "replicas: 1000", 1)
	if doc := parseOne(t, text); len(doc.Errors) != 1 || !strings.Contains(doc.Errors[0].Error(), "metadata.name: is too long for 1000 replicas: the last is called "+long+"-999") {
		t.Errorf("got %v", doc.Errors)
	}
}

func BenchmarkReplicas(b *testing.B) {
	text := []byte(strings.Replace(replicated, "replicas: 3", "replicas: 1000", 1))
	for b.Loop() {
		if docs := (Parser{}).Parse("web.yaml", text); len(docs[0].Replicas) != 1000 {
			b.Fatal(docs[0].Errors)
		}
	}
}
