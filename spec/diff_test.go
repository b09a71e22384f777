package spec

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// fullManifest sets every field that is served.
const fullManifest = `apiVersion: stead/v1
kind: Container
metadata:
  name: web
  labels: {app: web}
  annotations: {team: shop}
spec:
  hosts: ["node*", "!node9", "*.example.com"]
  suspend: true
  protect: true
  rootfs: {path: /srv/web, readOnly: true}
  command: [nginx]
  args: [-g, daemon off;]
  env: {TZ: UTC, EMPTY: ""}
  workingDir: /srv
  user: www-data:33
  groups: [adm]
  hostname: www
  ulimits: {nofile: 65536, memlock: unlimited, core: {soft: 0, hard: unlimited}}
  resources: {memory: 256Mi, memoryLow: 64Mi, swap: 0, cpu: 500m, cpuWeight: 100, pids: 128, cpuset: 0-1, io: {weight: 100}}
  mounts:
    /data: {source: /srv/data, readOnly: true, mountPoint: true, recursive: false, propagation: private, idmap: false}
    /tmp: {tmpfs: {size: 16Mi}, owner: app, mode: "0755"}
    /vol: {volume: data}
    /cache: {source: /srv/cache, create: true, owner: app, mode: "0750"}
  files:
    /etc/app.conf: {source: /srv/app.conf, mode: "0400", owner: app, onChange: none}
    /etc/motd: {content: "hello\n", onChange: none}
  envFiles: {DB: {source: /srv/db.env}}
  envSecrets: {DB: {source: /srv/db, onChange: none}}
  reload: {signal: HUP}
  sysctls: {kernel.shmmax: 1073741824}
  network: {mode: host}
  security:
    capabilities: {add: [NET_ADMIN], drop: [MKNOD]}
    seccomp: unconfined
    userns: host
    noNewPrivileges: false
    pid: host
  devices:
    /dev/fuse: {}
    /dev/data: {source: /dev/serial/by-id/x, owner: app, mode: "0660", access: r, optional: true}
  restart: {policy: on-failure, backoff: {initial: 2s, max: 1m}, maxRetries: 5}
  stop: {signal: QUIT, timeout: 30s}
  logs: {maxSize: 1Mi, keep: 0}
`

func TestDiff(t *testing.T) {
	base := head + minimal
	for _, test := range []struct {
		summary  string
		old, new string
		want     string
	}{
		{"nothing", base, base, ""},
		{"another name is no change of this container", base, strings.Replace(base, "name: web", "name: db", 1) + "  hostname: web\n", ""},
		{"a limit", base + "  resources: {memory: 128Mi}\n", base + "  resources: {memory: 256Mi}\n", "spec.resources.memory 128Mi → 256Mi (live)"},
		{"a limit taken away", base + "  resources: {cpu: 2, io: {weight: 50}}\n", base, "spec.resources.cpu 2 → (absent) (live)|spec.resources.io.weight 50 → (absent) (live)"},
		{"no swap is not the absence of a limit", base + "  resources: {memory: 1Gi}\n", base + "  resources: {memory: 1Gi, swap: 0}\n", "spec.resources.swap (absent) → 0 (live)"},
		{"env shows no value", base + "  env: {A: secret, B: x, C: same}\n", base + "  env: {A: public, C: same, D: y}\n",
			"spec.env.A (hidden) → (hidden) (restart)|spec.env.B (hidden) → (absent) (restart)|spec.env.D (absent) → (hidden) (restart)"},
		{"a command", base, strings.Replace(base, "[sh]", `[sh, -c, "echo hi", ""]`, 1), `spec.command [sh] → [sh, -c, "echo hi", ""] (restart)`},
		{"another root", base, strings.Replace(base, "host: {}", "path: /srv/web", 1), "spec.rootfs.host {} → (absent) (restart)|spec.rootfs.path (absent) → /srv/web (restart)"},
		{"a mount", base, base + "  mounts: {/data: {source: /a}, /tmp: {tmpfs: {}}}\n",
			"spec.mounts[/data].source (absent) → /a (restart)|spec.mounts[/tmp].tmpfs.size (absent) → 64Mi (restart)"},
		{"labels", strings.Replace(base, "name: web", "name: web, labels: {app: web}", 1), strings.Replace(base, "name: web", `name: web, labels: {app: "", a.b/c: d}`, 1),
			`metadata.labels.app web → "" (live)|metadata.labels[a.b/c] (absent) → d (live)`},
		{"suspend and the policy", base, base + "  suspend: true\n  restart: {policy: never, backoff: {max: 1d12h}}\n",
			"spec.restart.backoff.max 5m → 1d12h (live)|spec.restart.policy always → never (live)|spec.suspend false → true (live)"},
		{"a mount's own fields", base + "  mounts: {/data: {source: /a}}\n", base + "  mounts: {/data: {source: /a, recursive: false, readOnly: true}}\n",
			"spec.mounts[/data].readOnly false → true (restart)|spec.mounts[/data].recursive true → false (restart)"},
		{"a device with nothing said of it", base, base + "  devices: {/dev/fuse: {}}\n", "spec.devices[/dev/fuse] (absent) → {} (restart)"},
		{"a device's fields", base + "  devices: {/dev/fuse: {}}\n", base + "  devices: {/dev/fuse: {access: r}}\n", "spec.devices[/dev/fuse].access rw → r (restart)"},
		{"ulimits", base + "  ulimits: {nofile: 5, core: 0}\n", base + "  ulimits: {nofile: {soft: 5, hard: unlimited}}\n",
			"spec.ulimits.core 0 → (absent) (restart)|spec.ulimits.nofile 5 → {soft: 5, hard: unlimited} (restart)"},
		{"memoryLow", base, base + "  resources: {memoryLow: 1Mi}\n", "spec.resources.memoryLow (absent) → 1Mi (live)"},
		{"a volume that is there keeps its owner", base + "  mounts: {/d: {volume: d, mode: \"0700\"}}\n", base + "  mounts: {/d: {volume: d, owner: app, shared: true}}\n",
			"spec.mounts[/d].mode 0700 → (absent) (of a new volume; this one stays as it is) (live)|spec.mounts[/d].owner (absent) → app (of a new volume; this one stays as it is) (live)|spec.mounts[/d].shared false → true (restart)"},
		{"another volume", base + "  mounts: {/d: {volume: d}}\n", base + "  mounts: {/d: {volume: e, owner: app}}\n", "spec.mounts[/d].owner (absent) → app (restart)|spec.mounts[/d].volume d → e (restart)"},
		{"a secret that comes", base, base + "  envSecrets: {A: {source: /a}}\n", "spec.envSecrets.A.source (absent) → /a (restart)"},
		{"content is not shown", base + "  files: {/a: {content: x}, /b: {content: x, onChange: none}, /c: {content: x}}\n", base + "  files: {/a: {content: y}, /b: {content: y, onChange: none}, /c: {content: x}}\n",
			"spec.files[/a] (changed) (restart)|spec.files[/b] (changed) (live)"},
		{"another place for the same content", base + "  files: {/a: {source: /x}}\n", base + "  files: {/a: {source: /y, mode: \"0400\"}}\n",
			"spec.files[/a].mode (absent) → 0400 (live)|spec.files[/a].source /x → /y (live)"},
		{"a file that comes and one that goes", base + "  files: {/a: {content: x}}\n", base + "  files: {/b: {source: /x}}\n",
			"spec.files[/a] {} → (absent) (restart)|spec.files[/b].source (absent) → /x (restart)"},
		{"content from elsewhere", base + "  files: {/a: {source: /x}}\n", base + "  files: {/a: {content: x}}\n",
			"spec.files[/a] (changed) (restart)|spec.files[/a].source /x → (absent) (live)"},
		{"sysctls", base, base + "  sysctls: {net.core.somaxconn: 4096}\n", "spec.sysctls[net.core.somaxconn] (absent) → 4096 (restart)"},
		{"a long script, from where it differs", base + "  args: [\"" + strings.Repeat("x; ", 100) + "echo old\"]\n", base + "  args: [\"" + strings.Repeat("x; ", 100) + "echo new\"]\n",
			`spec.args …x; x; x; x; x; echo old"] → …x; x; x; x; x; echo new"] (restart)`},
	} {
		t.Run(test.summary, func(t *testing.T) {
			changes := Diff(valid(t, test.old), valid(t, test.new))
			if (changes == nil) != (test.want == "") {
				t.Errorf("got %#v", changes)
			}
			var got []string
			for _, c := range changes {
				got = append(got, c.String()+" ("+string(c.Effect)+")")
			}
			if joined := strings.Join(got, "|"); joined != test.want {
				t.Errorf("got  %s\nwant %s", joined, test.want)
			}
		})
	}
}

func TestEveryFieldHasAnEffect(t *testing.T) {
	identity := []string{"apiVersion", "kind", "metadata", "metadata.name"}
	docs := typeDocs(t)
	for _, f := range Fields() {
		switch {
		case docs[f.Doc] == "":
			t.Errorf("%s has no comment in types.go", f.Path)
		case f.Path == "spec" || slices.Contains(identity, f.Path):
			if f.Effect != "" {
				t.Errorf("%s has the effect %s, want none", f.Path, f.Effect)
			}
		case f.Effect != Live && f.Effect != NeedsRestart:
			t.Errorf("%s has the effect %q", f.Path, f.Effect)
		}
	}
}

// Each field of the table, changed alone, is one change of that path with that
// effect: no field can be forgotten by Diff.
func TestDiffKnowsEveryField(t *testing.T) {
	for _, f := range Fields() {
		if f.Effect == "" {
			continue
		}
		t.Run(f.Path, func(t *testing.T) {
			old, new := valid(t, fullManifest), valid(t, fullManifest)
			old.Spec.Rootfs.Host = nil
			if !alter(reflect.ValueOf(new).Elem(), strings.Split(f.Path, ".")) {
				return // a struct: its fields have rows of their own
			}
			changes := Diff(old, new)
			if len(changes) != 1 {
				t.Fatalf("got %v, want one change", changes)
			}
			got := changes[0].Path
			for _, key := range []string{"[/vol]", "[/data]", "[/tmp]", "[/dev/data]", "[/etc/app.conf]", "[/etc/motd]", ".DB"} {
				got = strings.Replace(got, key, ".*", 1)
			}
			isContent := changes[0].After == Changed && got+".content" == f.Path
			if got != f.Path && parentPath(got) != f.Path && !isContent {
				t.Errorf("got a change of %s", got)
			}
			if changes[0].Effect != f.Effect {
				t.Errorf("got the effect %s, want %s", changes[0].Effect, f.Effect)
			}
			if changes[0].Before == changes[0].After && changes[0].Before != hidden {
				t.Errorf("got %q on both sides", changes[0].Before)
			}
		})
	}
}

// alter changes the one value at a path; false if a struct with fields is there.
func alter(v reflect.Value, path []string) bool {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
			if s := shapeOf(v.Type().Elem()); s != nil && len(path) == 0 {
				return len(s.fields) == 0
			}
		}
		return alter(v.Elem(), path)
	}
	if len(path) > 0 {
		if path[0] == "*" {
			return alterEntries(v, path[1:])
		}
		return alter(v.Field(shapeOf(v.Type()).field(path[0]).index), path[1:])
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Int64:
		v.SetInt(v.Int() + 1)
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Slice:
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
	case reflect.Map:
		if v.Type().Elem().Kind() == reflect.Struct && v.Type().Elem() != ulimitType {
			return false
		}
		v.SetMapIndex(reflect.ValueOf("new"), reflect.Zero(v.Type().Elem()))
	default:
		return false
	}
	return true
}

// alterEntries changes the field in the first mount that has it: /data has a
// source, /tmp a tmpfs.
func alterEntries(m reflect.Value, path []string) bool {
	key := "/data"
	if path[0] == "tmpfs" {
		key = "/tmp"
	}
	switch {
	case path[0] == "volume" || path[0] == "shared":
		key = "/vol"
	case m.Type().Elem() == reflect.TypeFor[Device]():
		key = "/dev/data"
	case m.Type().Elem() == reflect.TypeFor[EnvSource]():
		key = "DB"
	case m.Type().Elem() == fileType && path[0] == "content":
		key = "/etc/motd"
	case m.Type().Elem() == fileType:
		key = "/etc/app.conf"
	}
	item := reflect.New(m.Type().Elem()).Elem()
	item.Set(m.MapIndex(reflect.ValueOf(key)))
	changed := alter(item, path)
	m.SetMapIndex(reflect.ValueOf(key), item)
	return changed
}

func TestReference(t *testing.T) {
	text := Reference()
	for _, f := range Fields() {
		if !strings.Contains(text, "| `"+f.Path+"` |") {
			t.Errorf("%s is not in the reference", f.Path)
		}
	}
	for _, want := range []string{
		"| `spec.resources.memory` | a size such as 256Mi |  | live | Memory limit, in bytes",
		"| `spec.network.mode` | `none`, `host` | required | restarts |",
		"`spec.mounts.*.volume`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the reference lacks %s", want)
		}
	}
}
