package spec

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// parseOver parses a manifest with fragments; their files are 1.yaml, 2.yaml, …
func parseOver(t *testing.T, base string, fragments ...string) Document {
	t.Helper()
	docs := Parser{Host: "node1"}.ParseWith("web.yaml", []byte(base), func(name string) []*Fragment {
		if name != "web" {
			t.Errorf("asked for the fragments of %q", name)
		}
		var list []*Fragment
		for i, text := range fragments {
			list = append(list, ParseFragment(string(rune('1'+i))+".yaml", []byte(text)))
		}
		return list
	})
	if len(docs) != 1 {
		t.Fatalf("got %d documents, want 1", len(docs))
	}
	return docs[0]
}

func TestMerge(t *testing.T) {
	base := head + minimal
	for _, test := range []struct {
		summary   string
		base      string
		fragments []string
		want      string // a manifest of the same meaning
	}{
		{"a field that was not there", base, []string{"spec: {resources: {memory: 1Gi}}"}, base + "  resources: {memory: 1Gi}\n"},
		{"a field beside others", base + "  resources: {memory: 1Gi, pids: 5}\n", []string{"spec: {resources: {memory: 2Gi}}"}, base + "  resources: {memory: 2Gi, pids: 5}\n"},
		{"null removes, in env too", base + "  env: {A: 1, B: 2}\n  user: app\n", []string{"spec: {env: {A: null, C: 3}, user: null}"}, base + "  env: {B: 2, C: 3}\n"},
		{"null removes a map, and what is not there", base + "  env: {A: 1}\n", []string{"spec: {env: ~, mounts: {/x: null}, stop: null}"}, base},
		{"a list is replaced", base + "  args: [a, b]\n", []string{"spec: {args: [c]}"}, base + "  args: [c]\n"},
		{"the later fragment has the last word", base, []string{"spec: {env: {A: 1, B: 1}}", "spec: {env: {A: 2}}", "spec: {env: {B: null}}"}, base + "  env: {A: 2}\n"},
		{"removed and given again", base, []string{"spec: {network: null}", "spec: {network: {mode: host}}"}, strings.Replace(base, "none", "host", 1)},
		{"labels and annotations", base, []string{"metadata: {labels: {tier: front}, annotations: {by: me}}"}, strings.Replace(base, "{name: web}", "{name: web, labels: {tier: front}, annotations: {by: me}}", 1)},
		{"one root in place of another", base, []string{"spec: {rootfs: {path: /srv/web}}"}, strings.Replace(base, "{host: {}}", "{path: /srv/web}", 1)},
		{"one root in place of another, the rest of it stays", strings.Replace(base, "{host: {}}", "{path: /srv/web, readOnly: true}", 1), []string{"spec: {rootfs: {host: {}}}"}, strings.Replace(base, "{host: {}}", "{host: {}, readOnly: true}", 1)},
		{"one kind of mount in place of another", base + "  mounts: {/d: {source: /a, readOnly: true}, /e: {source: /e}}\n", []string{"spec: {mounts: {/d: {tmpfs: {size: 1Mi}}}}"}, base + "  mounts: {/d: {tmpfs: {size: 1Mi}, readOnly: true}, /e: {source: /e}}\n"},
		{"a tmpfs takes what belongs to a source with it", base + "  mounts: {/d: {source: /a, create: true, owner: app, recursive: false, idmap: false}, /e: {source: /e, mountPoint: true}}\n", []string{"spec: {mounts: {/d: {tmpfs: {}}, /e: {tmpfs: {}}}}"},
			base + "  mounts: {/d: {tmpfs: {}, owner: app}, /e: {tmpfs: {}}}\n"},
		{"a source in place of a tmpfs", base + "  mounts: {/d: {tmpfs: {}, readOnly: true}}\n", []string{"spec: {mounts: {/d: {source: /a, recursive: false}}}"}, base + "  mounts: {/d: {source: /a, recursive: false, readOnly: true}}\n"},
		{"a device more, one less, one changed", base + "  devices: {/dev/fuse: {}, /dev/kvm: {access: r}}\n", []string{"spec: {devices: {/dev/fuse: null, /dev/kvm: {owner: app}, /dev/net/tun: {}}}"}, base + "  devices: {/dev/kvm: {access: r, owner: app}, /dev/net/tun: {}}\n"},
		{"a ulimit", base + "  ulimits: {nofile: 5, core: {soft: 1, hard: 2}}\n", []string{"spec: {ulimits: {nofile: {soft: 1, hard: 2}, core: unlimited}, sysctls: {kernel.sem: 1}}"}, base + "  ulimits: {nofile: {soft: 1, hard: 2}, core: unlimited}\n  sysctls: {kernel.sem: 1}\n"},
		{"nulls inside what is new", base, []string{"spec: {mounts: {/d: {source: null, tmpfs: {}}}}"}, base + "  mounts: {/d: {tmpfs: {}}}\n"},
		{"what is missing in the manifest", strings.Replace(base, "  command: [sh]\n", "", 1), []string{"spec: {command: [sh]}"}, base},
		{"references are expanded afterwards", base, []string{"spec: {env: {WHO: '${stead.name}'}}"}, base + "  env: {WHO: web}\n"},
		{"nothing to say", base, []string{"{}", "spec: {}\n---\n"}, base},
		{"JSON", base, []string{`{"spec": {"user": "app", "groups": null}}`}, base + "  user: app\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			doc := parseOver(t, test.base, test.fragments...)
			if doc.Errors != nil {
				t.Fatal(printErrors(doc.Errors))
			}
			if want := valid(t, test.want); !reflect.DeepEqual(doc.Container, want) {
				t.Errorf("got %s\nwant %s", asJSON(t, doc.Container), asJSON(t, want))
			}
		})
	}
}

func TestErrorsNameTheirFragment(t *testing.T) {
	base := head + minimal
	for _, test := range []struct {
		summary   string
		base      string
		fragments []string
		want      string
	}{
		{"a value of the fragment", base, []string{"spec:\n  resources:\n    memory: 1\n"}, "1.yaml:3:13: spec.resources.memory: found 1, want at least 1Mi\n"},
		{"a value of the manifest", base + "  resources: {memory: 1}\n", []string{"spec: {resources: {pids: 5}}"}, "web.yaml:8:23: spec.resources.memory: found 1, want at least 1Mi\n"},
		{"a value of the manifest that lacks what the fragment took", base + "  resources: {memory: 1Gi, swap: 0}\n", []string{"spec: {resources: {memory: null}}"}, "web.yaml:8:34: spec.resources.swap: needs memory: swap is counted in addition to memory\n"},
		{"each its own", base + "  workingDir: x\n", []string{"spec: {user: ':'}", "spec:\n  hostname: '-'\n"},
			"web.yaml:8:15: spec.workingDir: found \"x\", want an absolute path\n" +
				"1.yaml:1:14: spec.user: found \":\": want USER or USER:GROUP, each a name or an id\n" +
				"2.yaml:2:13: spec.hostname: found \"-\": want at most 64 letters, digits and '-', in parts separated by '.'\n"},
		{"what is required and was removed", base, []string{"spec:\n  command: null\n  network: {mode: null}\n"},
			"1.yaml:2:3: spec.command: missing; want a list such as [sh, -c, \"echo hello\"]\n1.yaml:3:13: spec.network.mode: missing; want none or host\n"},
		{"no root is left", base, []string{"spec:\n  rootfs: {host: null}\n"}, "1.yaml:2:3: spec.rootfs: found neither host, path nor image, want exactly one of them: rootfs: {host: {}}\n"},
		{"what is missing in the manifest", strings.Replace(base, "  command: [sh]\n", "", 1), []string{"spec: {user: app}"}, "web.yaml:4:1: spec.command: missing; want a list such as [sh, -c, \"echo hello\"]\n"},
		{"a map for a value that is none", base, []string{"spec: {user: {a: b}}"}, "1.yaml:1:14: spec.user: found a map, want text or a number\n"},
		{"an unknown field that is to be removed", base, []string{"spec: {comand: null}"}, "1.yaml:1:8: spec.comand: unknown field; did you mean command?\n"},
		{"a field of a later version", base, []string{"spec: {health: null}"}, "1.yaml:1:8: spec.health: not supported yet; until then: a timer that runs stead exec NAME -- CHECK, and stead restart NAME when that fails\n"},
		{"two that exclude each other", base, []string{"spec: {rootfs: {host: {}, path: /x}}"}, "1.yaml:1:27: spec.rootfs: found host and path, want exactly one of them\n"},
		{"two in the manifest, whatever the fragment names", strings.Replace(base, "{host: {}}", "{host: {}, path: /x}", 1), []string{"spec: {rootfs: {host: {}}}"}, "web.yaml:5:22: spec.rootfs: found host and path, want exactly one of them\n"},
		{"a null in the manifest, which removes nothing", base + "  user: null\n", []string{"spec: {user: app}"}, "web.yaml:8:9: spec.user: found nothing (null), want text; write \"\" for an empty one\n"},
		{"a null in a list", base, []string{"spec: {args: [a, null]}"}, "1.yaml:1:18: spec.args[1]: found nothing (null), want text; write \"\" for an empty one\n"},
		{"a whole manifest", base, []string{base}, "1.yaml:1:13: apiVersion: has no place here: a drop-in holds parts of metadata and spec; a whole manifest stands in a file of its own\n" +
			"1.yaml:2:7: kind: has no place here: a drop-in holds parts of metadata and spec; a whole manifest stands in a file of its own\n" +
			"1.yaml:3:18: metadata.name: has no place here: the folder's name says which container is meant\n"},
		{"a level that was left out", base, []string{"resources: {memory: 1Gi}"}, "1.yaml:1:1: resources: unknown field; did you mean spec.resources?\n"},
		{"empty", base, []string{"# later\n"}, "1.yaml:1: is empty or has only comments; delete it if it is not needed\n"},
		{"two documents", base, []string{"{}\n---\nspec: {}\n"}, "1.yaml:3: a second document; this file has exactly one\n"},
		{"a list", base, []string{"- spec\n"}, "1.yaml:1:1: found a list, want a map: a drop-in holds parts of metadata and spec\n"},
		{"no YAML, and an error of the manifest beside it", base + "  usr: x\n", []string{"spec: {"}, "web.yaml:8:3: spec.usr: unknown field; did you mean user?\n1.yaml:1: not valid YAML: did not find expected node content\n"},
		{"an anchor that contains itself", base, []string{"spec: &a {env: *a}\n"}, "1.yaml:1:16: the anchor (&a) contains itself\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			doc := parseOver(t, test.base, test.fragments...)
			if got := printErrors(doc.Errors); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
			if doc.Container != nil || doc.Name != "web" {
				t.Errorf("name %q, container %v: want the name and no container", doc.Name, doc.Container)
			}
		})
	}
}

// A fragment serves many manifests: merging must leave it, and the manifest, alone.
func TestMergeChangesNothing(t *testing.T) {
	f := ParseFragment("1.yaml", []byte("spec: {env: {A: null, B: 2}, rootfs: {path: /x}}"))
	over := func(string) []*Fragment { return []*Fragment{f, f} }
	before := asJSON(t, plainValue(f.root))
	one := Parser{}.ParseWith("web.yaml", []byte(head+minimal), over)[0].Container
	two := Parser{}.ParseWith("web.yaml", []byte(head+minimal), over)[0].Container
	if !reflect.DeepEqual(one, two) || asJSON(t, plainValue(f.root)) != before {
		t.Errorf("the fragment was changed: %s", asJSON(t, plainValue(f.root)))
	}
}

// FuzzMerge: no input makes merging panic, and where no fields exclude each other
// the result is that of RFC 7396. The committed corpus is in testdata/fuzz.
func FuzzMerge(f *testing.F) {
	f.Add(head+typical[len(head):], "spec: {env: {TZ: null, A: b}, mounts: {/data: {tmpfs: {}}}}")
	f.Add("a: {b: c}", "a: {b: d, c: null}")
	f.Add("a: [b]", "a: {c: {d: null, e: 1}}")
	f.Fuzz(func(t *testing.T, base, patch string) {
		fragment := ParseFragment("1.yaml", []byte(patch))
		for _, doc := range (Parser{Host: "node1"}).ParseWith("web.yaml", []byte(base), func(string) []*Fragment { return []*Fragment{fragment} }) {
			if (doc.Container == nil) == (doc.Errors == nil) {
				t.Fatalf("container %v with errors %v", doc.Container, doc.Errors)
			}
			if doc.Container != nil {
				roundTrip(t, doc.Container)
			}
		}
		one, two := soleNode(base), soleNode(patch)
		if one == nil || two == nil {
			return
		}
		before := asJSON(t, plainValue(one))
		m := merger{fragment: fragment, fragmentOf: map[*yaml.Node]*Fragment{}, removed: map[string]*yaml.Node{}}
		got := asJSON(t, plainValue(m.merge(one, two, nil, "")))
		if want := asJSON(t, mergePatch(plainValue(one), plainValue(two))); got != want {
			t.Fatalf("got %s\nwant %s", got, want)
		}
		if asJSON(t, plainValue(one)) != before {
			t.Fatal("the manifest was changed")
		}
	})
}

// mergePatch is the pseudo code of RFC 7396, section 2.
func mergePatch(target, patch any) any {
	fields, isMap := patch.(map[string]any)
	if !isMap {
		return patch
	}
	out := map[string]any{}
	if before, isMap := target.(map[string]any); isMap {
		out = before
	}
	for key, value := range fields {
		if value == nil {
			delete(out, key)
		} else {
			out[key] = mergePatch(out[key], value)
		}
	}
	return out
}

// soleNode is the root of a text that is plain enough for merging: no key twice,
// no anchors, no tags. Merging is not asked for anything else.
func soleNode(text string) *yaml.Node {
	d := &decoder{}
	root := d.decodeOneDocument([]byte(text))
	if root == nil || !plainBelow(d, root) || len(d.errs) > 0 {
		return nil
	}
	return root
}

func plainBelow(d *decoder, n *yaml.Node) bool {
	if !d.checkPlain(n, "") {
		return false
	}
	if n.Kind == yaml.MappingNode {
		given := 0
		d.eachPair(n, "", func(_, val *yaml.Node) {
			if plainBelow(d, val) {
				given++
			}
		})
		return given == len(n.Content)/2
	}
	for _, c := range n.Content {
		if !plainBelow(d, c) {
			return false
		}
	}
	return true
}

// plainValue is a node as JSON would have it; scalars keep their text.
func plainValue(n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			out[n.Content[i].Value] = plainValue(n.Content[i+1])
		}
		return out
	case yaml.SequenceNode:
		out := []any{}
		for _, c := range n.Content {
			out = append(out, plainValue(c))
		}
		return out
	}
	if isNull(n) {
		return nil
	}
	return "=" + n.Value
}

// The largest files merge in the time that any file may take.
func TestMergeOfLargeFiles(t *testing.T) {
	var base, patch strings.Builder
	base.WriteString(head + minimal + "  env:\n")
	for i := 0; base.Len() < MaxFileSize-100; i++ {
		fmt.Fprintf(&base, "    A%d: 1\n", i)
	}
	patch.WriteString("spec:\n  env:\n")
	for i := 0; patch.Len() < MaxFileSize-100; i++ {
		fmt.Fprintf(&patch, "    A%d: null\n", i)
	}
	began := time.Now()
	doc := parseOver(t, base.String(), patch.String())
	if doc.Errors != nil || len(doc.Container.Spec.Env) > 40_000 {
		t.Errorf("errors %v", doc.Errors)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

func BenchmarkParseWithFragment(b *testing.B) {
	f := ParseFragment("1.yaml", []byte("spec: {env: {TZ: null, A: b}, resources: {memory: 1Gi}}"))
	b.ReportAllocs()
	for b.Loop() {
		if doc := (Parser{}).ParseWith("web.yaml", []byte(typical), func(string) []*Fragment { return []*Fragment{f} })[0]; doc.Errors != nil {
			b.Fatal(doc.Errors[0])
		}
	}
}
