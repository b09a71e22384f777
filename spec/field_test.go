package spec

import (
	"encoding/json"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// without drops the lines of minimal that a test gives itself.
func without(field string) string {
	var b strings.Builder
	for line := range strings.Lines(minimal) {
		if !strings.HasPrefix(line, "  "+field+":") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// shapeRow is a fault that the shape alone shows: the schema must refuse it too.
var shapeRows = []fieldRow{
	{"a field that is not there", "foo: 1", `spec.foo: unknown field`},
	{"a typing mistake", "workingdir: /x", `spec.workingdir: unknown field; did you mean workingDir?`},
	{"a field of another level", "memory: 1Gi", `spec.memory: unknown field; did you mean spec.resources.memory?`},
	{"a field of a small struct", "stop: {sgnl: TERM}", `spec.stop.sgnl: unknown field; did you mean signal?`},
	{"what is known there", "resources: {io: {bandwidth: 1}}", `spec.resources.io.bandwidth: unknown field; known here: weight`},
	{"containers, as in a Pod", "containers: []", `spec.containers: unknown field; one manifest is one container: command, env and resources stand directly under spec`},
	{"image at the wrong level", "image: nginx", `spec.image: unknown field; an image goes under rootfs: rootfs: {image: docker.io/library/nginx:1.27}`},
	{"environment, as in Compose", "environment: [A=b]", `spec.environment: unknown field; did you mean env? It is a map: env: {TZ: UTC}`},
	{"volumes", "volumes: [/a:/b]", `spec.volumes: unknown field; did you mean mounts? It is a map by target: mounts: {/data: {source: /srv/data}}`},
	{"ports", "ports: [80]", `spec.ports: unknown field; ports go under network, and are not supported yet; with network: {mode: host} the program's ports are the host's`},
	{"cpus", "cpus: 2", `spec.cpus: unknown field; did you mean resources.cpu?`},
	{"cpus of resources", "resources: {cpus: 2}", `spec.resources.cpus: unknown field; did you mean cpu?`},
	{"limits, as in Kubernetes", "resources: {limits: {memory: 1Gi}}", `spec.resources.limits: unknown field; write the limits directly under resources: resources: {memory: 256Mi, cpu: 500m}`},
	{"limits at the wrong level", "limits: {memory: 1Gi}", `spec.limits: unknown field; did you mean resources? As in resources: {memory: 256Mi, cpu: 500m}`},
	{"restart: no", "restart: no", `spec.restart: found "no", want a map of fields (policy, backoff, maxRetries); write restart: {policy: never}`},
	{"restart: always", "restart: always", `spec.restart: found "always", want a map of fields (policy, backoff, maxRetries); write restart: {policy: always}`},
	{"restart.policy: no", "restart: {policy: no}", `spec.restart.policy: found "no", want always, on-failure or never; did you mean never?`},
	{"a command line", "command: nginx -g x", `spec.command: found "nginx -g x", want a list such as [a, b]; write [nginx, -g, x], or [sh, -c, "…"] for a shell's command line`},
	{"a program", "command: nginx", `spec.command: found "nginx", want a list such as [a, b]; write [nginx]`},
	{"a number in a command", "command: [sleep, 10]", `spec.command[1]: found 10, want text; quote it: "10"`},
	{"no command", "command: []", `spec.command: found an empty list, want at least the program to run`},
	{"no network", "network: {}", `spec.network.mode: missing; want none or host`},
	{"network: host", "network: host", `spec.network: found "host", want a map of fields (mode); write network: {mode: host}`},
	{"a private network", "network: {mode: private}", `spec.network.mode: private is not supported yet; until then: host, where the program's ports are the host's, or none`},
	{"published ports", "network: {mode: host, ports: {}}", `spec.network.ports: not supported yet; until then: network: {mode: host}, where the program's ports are the host's`},
	{"rootfs: host", "rootfs: host", `spec.rootfs: found "host", want a map of fields (host, path, image, onImageChange, readOnly); write rootfs: {host: {}}`},
	{"rootfs.host without {}", "rootfs: {host: }", `spec.rootfs.host: found nothing (null), want {}`},
	{"rootfs.host: true", "rootfs: {host: true}", `spec.rootfs.host: found true, want {}; write rootfs: {host: {}}`},
	{"rootfs.template", "rootfs: {template: debian}", `spec.rootfs.template: unknown field; there are no templates; use host: {}, path: /DIRECTORY or image: NAME`},
	{"an empty path", `rootfs: {path: ""}`, `spec.rootfs.path: found an empty text; give a value or remove the line`},
	{"a field of a later version", "boot: true", `spec.boot: not supported yet; until then: the service alone as the command, with init: true where it needs a first process`},
	{"a size of the root", "rootfs: {image: a, size: 1Gi}", `spec.rootfs.size: not supported yet; until then: path: /DIRECTORY on a file system of that size`},
	{"replicas in words", "replicas: three", `spec.replicas: found "three", want a whole number`},
	{"a field of a later version without a value", "health: ", `spec.health: not supported yet; until then: a timer that runs stead exec NAME -- CHECK, and stead restart NAME when that fails`},
	{"env as a list", "env: [A=b]", `spec.env: found a list, want a map such as {KEY: value}`},
	{"env without a value", "env: {A: }", `spec.env.A: found nothing (null), want text; write "" for an empty one`},
	{"env that holds a bool", "env: {A: true}", `spec.env.A: found true, want text or a number; quote it: "true"`},
	{"nothing under env", "env:", `spec.env: found nothing (null), want a map such as {KEY: value}; give a value or remove the line`},
	{"yes for a bool", "protect: yes", `spec.protect: found "yes", want true or false; yes, no, on and off are text in YAML 1.2`},
	{"a number for a bool", "suspend: 1", `spec.suspend: found 1, want true or false`},
	{"1.5 for a whole number", "resources: {pids: 1.5}", `spec.resources.pids: found 1.5, want a whole number`},
	{"text for a whole number", `resources: {pids: "5"}`, `spec.resources.pids: found "5", want a whole number`},
	{"a number for text", "hostname: 5", `spec.hostname: found 5, want text; quote it: "5"`},
	{"a list for text", "hostname: [a]", `spec.hostname: found a list, want text`},
	{"256M", "resources: {memory: 256M}", `spec.resources.memory: found "256M": "M" means different things in different tools; write 256Mi (1024-based)`},
	{"256m", "resources: {memory: 256m}", `spec.resources.memory: found "256m": "m" means different things in different tools; write 256Mi (1024-based)`},
	{"1GB", "resources: {memory: 1GB}", `spec.resources.memory: found "1GB": "GB" means different things in different tools; write 1Gi (1024-based)`},
	{"1.5Gi", "resources: {memory: 1.5Gi}", `spec.resources.memory: found "1.5Gi": want a whole number with Ki, Mi, Gi or Ti: 1536Mi, not 1.5Gi`},
	{"a size below 0", "resources: {memory: -1}", `spec.resources.memory: found -1: want 0 or more`},
	{"a bool for a size", "resources: {memory: true}", `spec.resources.memory: found true, want a size such as 256Mi`},
	{"50%", "resources: {cpu: 50%}", `spec.resources.cpu: found "50%": want cores such as 0.5 or 500m; half of one core is 500m, not 50%`},
	{"CPU below 0", "resources: {cpu: -0.5}", `spec.resources.cpu: found -0.5: want 0 or more`},
	{"a duration without a unit", "stop: {timeout: 10}", `spec.stop.timeout: found 10: a unit is missing; want a duration such as 10s, 1m30s or 2d: 10s?`},
	{"a duration that is none", "stop: {timeout: soon}", `spec.stop.timeout: found "soon": want a duration such as 10s, 1m30s or 2d`},
	{"another seccomp profile", "security: {seccomp: /etc/profile.json}", `spec.security.seccomp: found "/etc/profile.json", want default or unconfined`},
	{"devices as a list", "devices: [/dev/fuse]", `spec.devices: found a list, want a map by name; write devices by their path: devices: {/dev/fuse: {}}`},
	{"a device as its access", "devices: {/dev/fuse: r}", `spec.devices[/dev/fuse]: found "r", want a map of fields (source, owner, mode, access, optional); write {access: r}`},
	{"mounts as a list", "mounts: [/a]", `spec.mounts: found a list, want a map by name; write mounts by target: mounts: {/data: {source: /srv/data}}`},
	{"a mount as a path", "mounts: {/a: /b}", `spec.mounts[/a]: found "/b", want a map of fields; write {source: /b}`},
}

// valueRows are faults that only the values show, or the way they are written.
var valueRows = []fieldRow{
	{"an octal number", "resources: {pids: 010}", `spec.resources.pids: found 010: want a whole number in plain decimal digits, without leading zeros`},
	{"a hexadecimal number", "resources: {pids: 0x10}", `spec.resources.pids: found 0x10: want a whole number in plain decimal digits, without leading zeros`},
	{"digits in groups", "resources: {pids: 1_000}", `spec.resources.pids: found 1_000: want a whole number in plain decimal digits, without leading zeros`},
	{"a whole number that is too large", "resources: {pids: 9223372036854775808}", `spec.resources.pids: found 9223372036854775808: too large`},
	{"a size that is too large", "resources: {memory: 8388608Ti}", `spec.resources.memory: found "8388608Ti": too large`},
	{"a duration that is too large", "stop: {timeout: 106752d}", `spec.stop.timeout: found "106752d": too large`},
	{"a wrong value with an anchor", "env: &e {A: [1]}", `spec.env.A: found a list, want text or a number`},
	{"a merge key", "stop: {<<: {}}", `spec.stop: a merge key (<<) is not supported; what several manifests have in common goes into the folder's container.d/`},
	{"a tag", "hostname: !!str 5", `spec.hostname: a tag (!!str) is not supported; quote a value to make it text`},
	{"a field given twice", "hostname: a\n  hostname: b", `spec.hostname: given twice; the first is on line 8`},
	{"a key that is no text", "env: {1: x}", `spec.env: found 1 as a key, want text; quote it`},
	{"a NUL", `args: ["\0"]`, `spec.args[0]: found "\x00": holds a NUL character`},
	{"two roots", "rootfs: {host: {}, path: /a}", `spec.rootfs: found host and path, want exactly one of them`},
	{"no root", "rootfs: {readOnly: true}", `spec.rootfs: found neither host, path nor image, want exactly one of them: rootfs: {host: {}}`},
	{"the host's own root", "rootfs: {path: /}", `spec.rootfs.path: found "/": the root of the host can't be the root of a container; use host: {}`},
	{"a root with ..", "rootfs: {path: /a/../b}", `spec.rootfs.path: found "/a/../b", want it written as "/b"`},
	{"an empty program", `command: [""]`, `spec.command[0]: found an empty text, want the program to run`},
	{"an env name", "env: {a=b: x}", `spec.env[a=b]: want a name that is not empty and holds no '='`},
	{"an env name that is ours", "env: {STEAD_X: x}", `spec.env.STEAD_X: names that begin with STEAD_ are set by stead`},
	{"a relative working directory", "workingDir: app", `spec.workingDir: found "app", want an absolute path`},
	{"a user with a space", "user: a b", `spec.user: found "a b": want USER or USER:GROUP, each a name or an id`},
	{"a user id that is too high", "user: 65536", `spec.user: found "65536": want an id from 0 to 65535, without leading zeros`},
	{"a group id that is octal", "user: root:010", `spec.user: found "root:010": want an id from 0 to 65535, without leading zeros`},
	{"three parts", "user: a:b:c", `spec.user: found "a:b:c": want USER or USER:GROUP, each a name or an id`},
	{"a group", `groups: ["1x"]`, `spec.groups[0]: found "1x": want USER or USER:GROUP, each a name or an id`},
	{"a host name", "hostname: a_b", `spec.hostname: found "a_b": want at most 64 letters, digits and '-', in parts separated by '.'`},
	{"a ulimit", "ulimits: {nofiles: 5}", `spec.ulimits.nofiles: unknown limit; did you mean nofile?; want one of as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack`},
	{"a ulimit below 0", "ulimits: {nofile: -1}", `spec.ulimits.nofile: found -1: want a number or unlimited; no limit is unlimited`},
	{"too little memory", "resources: {memory: 1000Ki}", `spec.resources.memory: found 1000Ki, want at least 1Mi`},
	{"swap alone", "resources: {swap: 1Gi}", `spec.resources.swap: needs memory: swap is counted in addition to memory`},
	{"swap with memory that is wrong", "resources: {memory: x, swap: 1Gi}", `spec.resources.memory: found "x": want a size such as 256Mi`},
	{"too little CPU", "resources: {cpu: 9m}", `spec.resources.cpu: found 9m, want 10m to 8192: the smallest quota of the kernel is 1 ms in each 100 ms`},
	{"finer than 1m", "resources: {cpu: 0.0005}", `spec.resources.cpu: found 0.0005: want cores such as 0.5 or 500m; the finest is 0.001 (1m)`},
	{"a weight", "resources: {cpuWeight: 0, io: {weight: 10001}}", `spec.resources.cpuWeight: found 0, want 1 to 10000|spec.resources.io.weight: found 10001, want 1 to 10000`},
	{"no process", "resources: {pids: 0}", `spec.resources.pids: found 0, want 1 to 4194304`},
	{"a CPU set", "resources: {cpuset: 3-1}", `spec.resources.cpuset: found "3-1": want CPU numbers such as 0-1,4`},
	{"a mount on the root", "mounts: {/: {tmpfs: {}}}", `spec.mounts[/]: a mount can't replace the root; use rootfs`},
	{"a mount below /dev", "mounts: {/dev/x: {tmpfs: {}}}", `spec.mounts[/dev/x]: stead mounts /dev itself; nothing else can be mounted there or below`},
	{"a relative mount", "mounts: {data: {source: /a}}", `spec.mounts.data: found "data", want an absolute path`},
	{"a mount's trailing slash", "mounts: {/data/: {source: /a}}", `spec.mounts[/data/]: found "/data/", want it written as "/data"`},
	{"a mount of nothing", "mounts: {/a: {}}", `spec.mounts[/a]: found none of source, tmpfs and volume, want exactly one of them`},
	{"a mount of both", "mounts: {/a: {source: /b, tmpfs: {}}}", `spec.mounts[/a]: found source and tmpfs, want exactly one of them`},
	{"a relative source", "mounts: {/a: {source: ./b}}", `spec.mounts[/a].source: found "./b", want an absolute path: a mount keeps the directory that the path led to when the container was started`},
	{"a tmpfs of nothing", "mounts: {/a: {tmpfs: {size: 0}}}", `spec.mounts[/a].tmpfs.size: found 0, want more than 0`},
	{"two mounts on one target", "mounts: {/web: {tmpfs: {}}, \"/${stead.name}\": {tmpfs: {}}}", `spec.mounts[/web]: another mount has the target "/web" too`},
	{"a capability with CAP_ that is none", "security: {capabilities: {add: [CAP_CHOWM]}}", `spec.security.capabilities.add[0]: found "CAP_CHOWM", want a capability as in capabilities(7), or ALL; did you mean CHOWN?`},
	{"a capability in small letters", "security: {capabilities: {drop: [net_admin]}}", `spec.security.capabilities.drop[0]: found "net_admin", want a capability as in capabilities(7), or ALL; write NET_ADMIN`},
	{"a capability in both", "security: {capabilities: {add: [CAP_CHOWN], drop: [CHOWN]}}", `spec.security.capabilities.drop[0]: CHOWN is in add too; want it in one of them`},
	{"a device with two paths", "devices: {\"/dev/a:/dev/b\": {}}", `spec.devices[/dev/a:/dev/b]: found "/dev/a:/dev/b", want the path inside; write /dev/b: {source: /dev/a, access: rw}`},
	{"a device as Docker has it", "devices: {\"/dev/fuse:/dev/fuse:rm\": {}}", `spec.devices[/dev/fuse:/dev/fuse:rm]: found "/dev/fuse:/dev/fuse:rm", want the path inside; write /dev/fuse: {source: /dev/fuse, access: r}`},
	{"a device's access as Docker has it", "devices: {/dev/fuse: {access: rwm}}", `spec.devices[/dev/fuse].access: found "rwm", want r, w or rw; did you mean rw?`},
	{"a device with its access as before", "devices: {\"/dev/fuse:r\": {}}", `spec.devices[/dev/fuse:r]: found "/dev/fuse:r", want the path alone; write /dev/fuse: {access: r}`},
	{"a device elsewhere", "devices: {fuse: {}, /srv/fuse: {}, /dev/: {}}", `spec.devices.fuse: found "fuse", want a path below /dev/, as in /dev/fuse|spec.devices[/srv/fuse]: found "/srv/fuse", want a path below /dev/, as in /dev/fuse|spec.devices[/dev/]: found "/dev/", want a path below /dev/, as in /dev/fuse`},
	{"a device out of /dev", "devices: {/dev/../etc/shadow: {}}", `spec.devices[/dev/../etc/shadow]: found "/dev/../etc/shadow", want it written as "/etc/shadow"`},
	{"a device that is there", "devices: {/dev/null: {}, /dev/pts/0: {}}", `spec.devices[/dev/null]: found "/dev/null": every container has it already|spec.devices[/dev/pts/0]: found "/dev/pts/0": every container has it already`},
	{"a device in another", "devices: {/dev/snd: {}, /dev/snd/seq: {}}", `spec.devices[/dev/snd/seq]: lies in "/dev/snd", which is a device, or a directory of them, already`},
	{"a back-off of nothing", "restart: {backoff: {initial: 0}}", `spec.restart.backoff.initial: found 0, want more than 0`},
	{"a back-off that shrinks", "restart: {backoff: {initial: 1m, max: 1s}}", `spec.restart.backoff.max: found 1s, want at least the initial delay, 1m`},
	{"no retries", "restart: {maxRetries: 0}", `spec.restart.maxRetries: found 0, want 1 or more; for no limit remove the line; for no restarts write policy: never`},
	{"SIGTERM", "stop: {signal: SIGTERM}", `spec.stop.signal: found "SIGTERM": want the name without SIG, in capitals: TERM`},
	{"a signal", "stop: {signal: TREM}", `spec.stop.signal: found "TREM": want a signal such as TERM, INT, QUIT or RTMIN+3; did you mean TERM?`},
	{"no time to stop", "stop: {timeout: 0}", `spec.stop.timeout: found 0, want more than 0; to kill the command at once write signal: KILL`},
	{"tiny logs", "logs: {maxSize: 1Ki, keep: 101}", `spec.logs.maxSize: found 1Ki, want at least 64Ki|spec.logs.keep: found 101, want 0 to 100`},
	{"an unknown reference", "env: {A: \"${stead.id}\"}", `spec.env.A: found ${stead.id}, want ${stead.name}, ${stead.index} or ${stead.host}; write $${stead.id} for a literal one`},
	{"a reference where none is expanded", "workingDir: \"/srv/${stead.name}\"", `spec.workingDir: found "/srv/${stead.name}": references are expanded in env, command, args, rootfs, mounts, sources of files and hostname only`},
	{"the index of no replica", "args: [\"${stead.index}\"]", `spec.args[0]: ${stead.index} needs replicas: it is the number of a replica`},
	{"a root of two kinds", "rootfs: {host: {}, image: a}", `spec.rootfs: found host and image, want exactly one of them`},
	{"a field of an image's root", "rootfs: {host: {}, onImageChange: reset}", `spec.rootfs.onImageChange: has no meaning without image`},
	{"an image of another tool", "rootfs: {image: \"nginx:1.27\"}", `spec.rootfs.image: found "nginx:1.27": want the whole reference: docker.io/library/nginx:1.27; the name of a local image holds no ":" and no "/"`},
	{"no replicas", "replicas: 0", `spec.replicas: found 0, want at least 1; to have none of them run write suspend: true`},
	{"too many replicas", "replicas: 1001", `spec.replicas: found 1001, want 1 to 1000`},
	{"a reference without its end", "args: [\"${stead.name\"]", `spec.args[0]: found "${stead.name" without its }; write $${ for a literal one`},
	{"nothing in a backup", "backup: {include: []}", `spec.backup.include: found an empty list, want at least one of root, volumes and the targets of mounts`},
	{"a backup of no mount", "mounts: {/data: {source: /srv}}\n  backup: {include: [rot, /dta]}", "spec.backup.include[0]: found \"rot\", want root, volumes, or the target of a mount with a source; did you mean root?|spec.backup.include[1]: found \"/dta\", want root, volumes, or the target of a mount with a source; did you mean /data?"},
	{"a backup of a volume by its target", "mounts: {/data: {volume: v}}\n  backup: {include: [/data]}", `spec.backup.include[0]: found "/data", where a volume is mounted; write volumes, which stands for all of them`},
	{"a backup of a tmpfs", "mounts: {/data: {tmpfs: {}}}\n  backup: {include: [/data]}", `spec.backup.include[0]: found "/data", a file system in memory, which no backup holds`},
}

// fieldRow is a line below spec, and its errors without their positions.
type fieldRow struct{ summary, line, want string }

func (r fieldRow) manifest() string {
	field, _, _ := strings.Cut(r.line, ":")
	return head + without(field) + "  " + r.line + "\n"
}

func TestFieldErrors(t *testing.T) {
	for _, row := range append(shapeRows[:len(shapeRows):len(shapeRows)], valueRows...) {
		t.Run(row.summary, func(t *testing.T) {
			var got []string
			for _, e := range parseOne(t, row.manifest()).Errors {
				if e.Line == 0 || e.Column == 0 {
					t.Errorf("%s: has no position", e)
				}
				got = append(got, e.Path+": "+e.Message)
			}
			if joined := strings.Join(got, "|"); joined != row.want {
				t.Errorf("%s\ngot  %s\nwant %s", row.line, joined, row.want)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{"labels: {app: web, example.com/tier: \"1\", empty: \"\"}", ""},
		{"labels: {\"a b\": x}", "metadata.labels[a b]: want a key of at most 63 letters, digits, '-', '_' and '.', as in app or example.com/app"},
		{"labels: {/a: x}", "metadata.labels[/a]: want a key of at most 63 letters, digits, '-', '_' and '.', as in app or example.com/app"},
		{"labels: {a: \"x y\"}", "metadata.labels.a: found \"x y\": want at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"},
		{"labels: {a: 1}", "metadata.labels.a: found 1, want text; quote it: \"1\""},
		{"annotations: {a: \"any text, at all\"}", ""},
	} {
		var got string
		for _, e := range parseOne(t, strings.Replace(head, "{name: web}", "{name: web, "+test.line+"}", 1)+minimal).Errors {
			got += e.Path + ": " + e.Message
		}
		if got != test.want {
			t.Errorf("%s\ngot  %s\nwant %s", test.line, got, test.want)
		}
	}
}

// What the decoder refuses for its shape, the schema refuses too: an editor
// must not call right what stead calls wrong.
func TestSchemaRefusesWhatTheDecoderDoes(t *testing.T) {
	schema := validator(t)
	for _, sound := range []string{head + minimal, typical, fullManifest} {
		if err := bySchema(t, schema, []byte(sound)); err != nil {
			t.Fatalf("the schema refuses a sound manifest: %v", err)
		}
	}
	for _, row := range shapeRows {
		if bySchema(t, schema, []byte(row.manifest())) == nil {
			t.Errorf("%s: the schema accepts %s", row.summary, row.line)
		}
	}
	for _, f := range Fields() {
		if !f.Required {
			continue
		}
		t.Run("missing "+f.Path, func(t *testing.T) {
			manifest := withoutPath(t, f.Path)
			if bySchema(t, schema, manifest) == nil || len(parseOne(t, string(manifest)).Errors) == 0 {
				t.Errorf("accepted without %s", f.Path)
			}
		})
	}
}

// withoutPath is a sound manifest, as JSON, that lacks one field.
func withoutPath(t *testing.T, path string) []byte {
	t.Helper()
	var root map[string]any
	if err := yaml.Unmarshal([]byte(head+minimal), &root); err != nil {
		t.Fatal(err)
	}
	names := strings.Split(path, ".")
	parent := root
	for _, name := range names[:len(names)-1] {
		next, there := parent[name].(map[string]any)
		if !there { // a field that is not in every manifest
			next = map[string]any{}
			parent[name] = next
		}
		parent = next
	}
	delete(parent, names[len(names)-1])
	data, err := json.Marshal(root)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
