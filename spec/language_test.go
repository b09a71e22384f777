package spec

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Each shape of the language that is decided: what of it is taken, in the form that
// all texts of its meaning have, and what is refused, with the message.
func TestLanguage(t *testing.T) {
	for _, row := range []struct {
		summary, line string
		normal        string // the field as JSON; "" if the line is refused
		refused       string
	}{
		{"devices is a map by the path inside", `devices: {/dev/fuse: {}, /dev/kvm: {source: /dev/kvm, access: r}, /dev/ttyACM0: {source: /dev/serial/by-id/usb-x, owner: app, mode: "0660", optional: true}}`,
			`{"/dev/fuse":{"access":"rw"},"/dev/kvm":{"access":"r"},"/dev/ttyACM0":{"source":"/dev/serial/by-id/usb-x","owner":"app","mode":"0660","access":"rw","optional":true}}`, ""},
		{"security.devices is its old spelling", "security: {devices: [/dev/fuse]}", "", "spec.security.devices: unknown field; devices is a field of spec now, a map by path: devices: {/dev/fuse: {}}, or with access: r for what was /dev/fuse:r"},
		{"a device as a list", `devices: ["/dev/fuse:r"]`, "", "spec.devices: found a list, want a map by name; write devices by their path: devices: {/dev/fuse: {}}"},
		{"CDI", "devices: {gpu: {cdi: nvidia.com/gpu=all}}", "", `spec.devices.gpu.cdi: not supported yet; until then: name the devices: devices: {/dev/nvidia0: {}}`},
		{"a device's mode", `devices: {/dev/fuse: {mode: "1660"}}`, "", `spec.devices[/dev/fuse].mode: found "1660", want four octal digits, as in "0640"`},
		{"a mode that is no text", `devices: {/dev/fuse: {mode: 0660}}`, "", `spec.devices[/dev/fuse].mode: found 0660, want text; quote it: "0660"`},
		{"a device's owner", `devices: {/dev/fuse: {owner: "a b"}}`, "", `spec.devices[/dev/fuse].owner: found "a b": want USER or USER:GROUP, each a name or an id`},

		{"$${ is a literal ${", `env: {A: "$${X} ${stead.name}"}`, `{"A":"${X} web"}`, ""},
		{"other ${} in env", `env: {A: "${DB_PASSWORD}"}`, "", "spec.env.A: found ${DB_PASSWORD}: stead substitutes only ${stead.*}; write the value, put it in a drop-in, or use envSecrets; literal: $${DB_PASSWORD}"},
		{"other ${} in a mount", `mounts: {/data: {source: "${HOME}/data"}}`, "", "spec.mounts[/data].source: found ${HOME}: stead substitutes only ${stead.*}; write the value, put it in a drop-in, or use envSecrets; literal: $${HOME}"},
		{"other ${} in hostname", `hostname: "${X"`, "", "spec.hostname: found ${X: stead substitutes only ${stead.*}; write the value, put it in a drop-in, or use envSecrets; literal: $${X"},
		{"other ${} in a path root", `rootfs: {path: "/srv/${X}"}`, "", "spec.rootfs.path: found ${X}: stead substitutes only ${stead.*}; write the value, put it in a drop-in, or use envSecrets; literal: $${X}"},
		{"a path root of its own", `rootfs: {path: "/srv/${stead.name}"}`, `{"path":"/srv/web"}`, ""},
		{"other ${} in args is the shell's", `args: [-c, "echo ${X} ${stead.host} $${Y}"]`, `["-c","echo ${X} node1 ${Y}"]`, ""},

		{"a bind carries what is mounted below along", "mounts: {/data: {source: /srv/data}}", `{"/data":{"source":"/srv/data","recursive":true,"propagation":"private","idmap":true}}`, ""},
		{"recursive: false", "mounts: {/data: {source: /srv/data, recursive: false, readOnly: true, idmap: false, mountPoint: true}}",
			`{"/data":{"source":"/srv/data","mountPoint":true,"recursive":false,"propagation":"private","idmap":false,"readOnly":true}}`, ""},
		{"a tmpfs has nothing of a bind", `mounts: {/run/app: {tmpfs: {size: 1Mi}, owner: "app:adm", mode: "1755"}}`, `{"/run/app":{"tmpfs":{"size":1048576},"owner":"app:adm","mode":"1755"}}`, ""},
		{"create belongs to source", "mounts: {/data: {tmpfs: {}, create: true}}", "", "spec.mounts[/data].create: has no meaning without source"},
		{"idmap belongs to source", "mounts: {/data: {tmpfs: {}, idmap: true}}", "", "spec.mounts[/data].idmap: has no meaning without source"},
		{"create with owner and mode", `mounts: {/data: {source: /srv/x, create: true, owner: app, mode: "0750"}}`,
			`{"/data":{"source":"/srv/x","create":true,"recursive":true,"propagation":"private","idmap":true,"owner":"app","mode":"0750"}}`, ""},
		{"owner without create", "mounts: {/data: {source: /srv/x, owner: app}}", "", "spec.mounts[/data].owner: has no meaning without create: true: an existing source keeps its owner and mode"},
		{"mode without create", `mounts: {/data: {source: /srv/x, mode: "0750"}}`, "", "spec.mounts[/data].mode: has no meaning without create: true: an existing source keeps its owner and mode"},
		{"a mount's mode", `mounts: {/data: {tmpfs: {}, mode: "4755"}}`, "", `spec.mounts[/data].mode: found "4755", want four octal digits, as in "0750" or "1777"`},
		{"create of a mount point", "mounts: {/data: {source: /srv/x, create: true, mountPoint: true}}", "", "spec.mounts[/data].create: has no meaning with mountPoint: true: a directory that stead creates is not a mount point"},
		{"propagation: slave with mapped ids", "mounts: {/data: {source: /mnt, propagation: slave}}", "", "spec.mounts[/data].propagation: slave needs security.userns: host: ids are not mapped in what the host mounts later"},
		{"another propagation", "mounts: {/data: {source: /mnt, propagation: shared}}", "", "spec.mounts[/data].propagation: found \"shared\", want private or slave; did you mean slave?"},
		{"shared memory of another size", "mounts: {/dev/shm: {tmpfs: {size: 1Gi}}}", `{"/dev/shm":{"tmpfs":{"size":1073741824}}}`, ""},
		{"shared memory that is not its own", "mounts: {/dev/shm: {source: /dev/shm}}", "", "spec.mounts[/dev/shm]: found a source or volume, want tmpfs: shared memory is private to the container"},
		{"a source that is relabelled", `mounts: {/data: {source: "/srv/x:z"}}`, "", `spec.mounts[/data].source: found "/srv/x:z", want "/srv/x": nothing is relabelled`},
		{"a source with an option", `mounts: {/data: {source: "/srv/x:ro"}}`, "", `spec.mounts[/data].source: found "/srv/x:ro", want "/srv/x", and readOnly: true beside it`},
		{"a relative source", "mounts: {/data: {source: ./web.files/data}}", "", `spec.mounts[/data].source: found "./web.files/data", want an absolute path: a mount keeps the directory that the path led to when the container was started`},

		{"files", `files: {/etc/a: {content: "x ${Y}\n"}, /etc/b: {source: ./web.files/b, mode: "0400", owner: "app:adm", onChange: none}, /etc/c: {source: "/srv/${stead.name}"}, /d: {content: ""}}`,
			`{"/d":{"content":"","onChange":"restart"},"/etc/a":{"content":"x ${Y}\n","onChange":"restart"},"/etc/b":{"source":"web.files/b","mode":"0400","owner":"app:adm","onChange":"none"},"/etc/c":{"source":"/srv/web","onChange":"restart"}}`, ""},
		{"variables from files", `envFiles: {app: {source: ./web.files/app.env, onChange: none}}`, `{"app":{"source":"web.files/app.env","onChange":"none"}}`, ""},
		{"secret variables", `envSecrets: {DB_PASSWORD: {source: "/etc/stead/secrets/${stead.name}"}}`, `{"DB_PASSWORD":{"source":"/etc/stead/secrets/web","onChange":"restart"}}`, ""},
		{"a secret that is none", "env: {A: x}\n  envSecrets: {A: {source: /a}}", "", "spec.envSecrets.A: is in env too; want it in one of them"},
		{"a secret without a source", "envSecrets: {A: {}}", "", "spec.envSecrets.A.source: missing; want text"},
		{"a secret of stead's own", "envSecrets: {STEAD_NAME: {source: /a}}", "", "spec.envSecrets.STEAD_NAME: names that begin with STEAD_ are set by stead"},
		{"variables that reload", "envFiles: {a: {source: /a, onChange: reload}}\n  reload: {signal: HUP}", "", `spec.envFiles.a.onChange: found "reload", want restart or none`},
		{"a volume", `mounts: {/d: {volume: "app_${stead.name}.x", owner: app, mode: "0750", shared: true}, /r: {volume: r, readOnly: true}}`,
			`{"/d":{"volume":"app_web.x","shared":true,"owner":"app","mode":"0750"},"/r":{"volume":"r","readOnly":true}}`, ""},
		{"a volume by its path", "mounts: {/d: {volume: /srv/d}}", "", `spec.mounts[/d].volume: found "/srv/d", want a name; a directory of the host is a source`},
		{"a volume's name", "mounts: {/d: {volume: .d}}", "", `spec.mounts[/d].volume: found ".d": want at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends`},
		{"a volume that is a bind", "mounts: {/d: {volume: d, source: /d}}", "", "spec.mounts[/d]: found source and volume, want exactly one of them"},
		{"a mount of nothing", "mounts: {/d: {}}", "", "spec.mounts[/d]: found none of source, tmpfs and volume, want exactly one of them"},
		{"shared belongs to volume", "mounts: {/d: {source: /d, shared: true}}", "", "spec.mounts[/d].shared: has no meaning without volume"},
		{"a reader that shares", "mounts: {/d: {volume: d, shared: true, readOnly: true}}", "", "spec.mounts[/d].shared: has no meaning with readOnly: true: whoever only reads a volume shares it"},
		{"replicas of one volume", "replicas: 2\n  mounts: {/d: {volume: d}}", "", "spec.mounts[/d].volume: is the same volume for all replicas; write ${stead.index} where they differ, as in d-${stead.index}, shared: true or readOnly: true"},
		{"reload by a signal", "reload: {signal: HUP}", `{"signal":"HUP"}`, ""},
		{"reload by a command", `reload: {exec: [nginx, -s, reload, "${stead.name} ${X}"]}`, `{"exec":["nginx","-s","reload","web ${X}"]}`, ""},
		{"reload by both", "reload: {signal: HUP, exec: [x]}", "", "spec.reload: found signal and exec, want exactly one of them"},
		{"reload by nothing", "reload: {}", "", "spec.reload: found neither signal nor exec, want exactly one of them"},
		{"reload by no command", "reload: {exec: []}", "", "spec.reload.exec: found no program, want at least the program to run"},
		{"reload by another signal", "reload: {signal: SIGHUP}", "", `spec.reload.signal: found "SIGHUP": want the name without SIG, in capitals: HUP`},
		{"onChange: reload without reload", "files: {/a: {content: x, onChange: reload}}", "", "spec.files[/a].onChange: found reload, which needs spec.reload: reload: {signal: HUP}, or {exec: [COMMAND]}"},
		{"files as a list", "files: [/etc/a]", "", "spec.files: found a list, want a map by name"},
		{"a file from two places", "files: {/a: {content: x, source: /x}}", "", "spec.files[/a]: found content and source, want exactly one of them"},
		{"a file from nowhere", "files: {/a: {}}", "", "spec.files[/a]: found neither content nor source, want exactly one of them"},
		{"a file's mode", `files: {/a: {content: x, mode: "4755"}}`, "", `spec.files[/a].mode: found "4755", want four octal digits, as in "0640"`},
		{"a file's owner", `files: {/a: {content: x, owner: "a b"}}`, "", `spec.files[/a].owner: found "a b": want USER or USER:GROUP, each a name or an id`},
		{"another onChange", `files: {/a: {content: x, onChange: never}}`, "", `spec.files[/a].onChange: found "never", want restart, reload or none`},
		{"a file in place of the root", "files: {/: {content: x}}", "", "spec.files[/]: a file can't replace the root"},
		{"a file of the kernel", "files: {/proc/x: {content: x}}", "", "spec.files[/proc/x]: stead mounts /proc itself; no file can be put there or below"},
		{"a relative path inside", "files: {etc/x: {content: x}}", "", `spec.files[etc/x]: found "etc/x", want an absolute path`},
		{"a file among stead's own", "files: {/run/stead/files/x: {content: x}}", "", "spec.files[/run/stead/files/x]: /run/stead/files holds the content of all files; name a path outside of it"},
		{"a file in another", "files: {/a: {source: /x}, /a/b/c: {content: x}}", "", "spec.files[/a/b/c]: lies in files[/a], whose content comes from one place"},
		{"a mount at a file", "files: {/a: {content: x}}\n  mounts: {/a: {tmpfs: {}}}", "", "spec.files[/a]: a mount has this target too"},
		{"a mount in a file", "files: {/a: {source: /x}}\n  mounts: {/a/b: {tmpfs: {}}}", "", "spec.mounts[/a/b]: lies in files[/a]; name another target"},
		{"a mount over all files", "files: {/a: {source: /x}}\n  mounts: {/run/stead/files: {tmpfs: {}}}", "", "spec.mounts[/run/stead/files]: stead mounts /run/stead/files itself, for files; name another target"},
		{"the host as a file", "files: {/a: {source: /}}", "", `spec.files[/a].source: found "/", want a file or a directory of files`},
		{"other ${} in a file's source", `files: {/a: {source: "/srv/${X}"}}`, "", "spec.files[/a].source: found ${X}: stead substitutes only ${stead.*}; write the value, put it in a drop-in, or use envSecrets; literal: $${X}"},

		{"a host name with dots", "hostname: www.example.com", `"www.example.com"`, ""},
		{"ALL in drop, names with CAP_", "security: {capabilities: {add: [CAP_CHOWN, CHOWN], drop: [ALL, CAP_KILL]}}",
			`{"capabilities":{"add":["CHOWN"],"drop":["ALL"]},"seccomp":"default","userns":"auto","noNewPrivileges":true,"pid":"private"}`, ""},

		{"sysctls keep a number's text", `sysctls: {net.core.somaxconn: 4096, kernel.sem: "250 32000 32 128", fs.mqueue.msg_max: 20, kernel.msgmax: 1, kernel.shmmax: 1}`,
			`{"fs.mqueue.msg_max":"20","kernel.msgmax":"1","kernel.sem":"250 32000 32 128","kernel.shmmax":"1","net.core.somaxconn":"4096"}`, ""},
		{"a sysctl of the host", "sysctls: {vm.swappiness: 1}", "", `spec.sysctls[vm.swappiness]: found "vm.swappiness", want a setting of the container's own namespaces: net.*, kernel.shm*, kernel.msg*, kernel.sem or fs.mqueue.*; others are the host's (sysctl.d(5))`},
		{"a sysctl with slashes", "sysctls: {net/core/somaxconn: 1}", "", `spec.sysctls[net/core/somaxconn]: found "net/core/somaxconn", want dots: net.core.somaxconn`},
		{"a sysctl that leads elsewhere", "sysctls: {net...kernel.panic: 1}", "", `spec.sysctls[net...kernel.panic]: found "net...kernel.panic", want a setting of the container's own namespaces: net.*, kernel.shm*, kernel.msg*, kernel.sem or fs.mqueue.*; others are the host's (sysctl.d(5))`},
		{"a sysctl of two lines", `sysctls: {kernel.sem: "1\n2"}`, "", `spec.sysctls[kernel.sem]: found "1\n2", want a value on one line`},
		{"security.pid: host with mapped ids", "security: {pid: host}", "", "spec.security.pid: host needs userns: host: from a user namespace of its own a container can't inspect the processes of the host"},
		{"security.pid: host with init", "security: {pid: host, userns: host}\n  init: true", "", "spec.init: has no meaning with security.pid: host: orphans go to the host's first process"},
		{"memoryLow", "resources: {memory: 256Mi, memoryLow: 128Mi}", `{"memory":268435456,"memoryLow":134217728}`, ""},
		{"memoryLow above memory", "resources: {memory: 256Mi, memoryLow: 257Mi}", "", "spec.resources.memoryLow: found 257Mi, want at most memory, 256Mi"},

		{"a ulimit as a number, as unlimited, and soft and hard", "ulimits: {nofile: 65536, memlock: unlimited, core: {soft: 0, hard: unlimited}, nproc: {soft: 5, hard: 5}}",
			`{"core":{"soft":0,"hard":"unlimited"},"memlock":"unlimited","nofile":65536,"nproc":5}`, ""},
		{"a soft limit above the hard one", "ulimits: {nofile: {soft: unlimited, hard: 5}}", "", "spec.ulimits.nofile: found {soft: unlimited, hard: 5}, want a soft limit that is not above the hard one"},
		{"a ulimit without its hard limit", "ulimits: {nofile: {soft: 5}}", "", "spec.ulimits.nofile.hard: missing; want a number or unlimited"},
		{"a ulimit as text", "ulimits: {nofile: lots}", "", `spec.ulimits.nofile: found "lots": want a whole number in plain decimal digits, without leading zeros`},
		{"a ulimit as a list", "ulimits: {nofile: [1, 2]}", "", "spec.ulimits.nofile: found a list, want a number, unlimited, or {soft: 1024, hard: 65536}"},
		{"ulimits as a list", "ulimits: [nofile=5]", "", "spec.ulimits: found a list, want a map such as {KEY: value}; write them by name: {NAME: VALUE}"},

		{"no retries", "restart: {maxRetries: 0}", "", "spec.restart.maxRetries: found 0, want 1 or more; for no limit remove the line; for no restarts write policy: never"},
		{"rerun", "rerun: on-boot\n  restart: {policy: never}", `"on-boot"`, ""},
		{"runOnce is its old spelling", "runOnce: boot", "", "spec.runOnce: unknown field; it is called rerun now: rerun: on-change (was spec) or on-boot (was boot)"},
		{"any name of a variable", `env: {my.var-1: x, "a b": y}`, `{"a b":"y","my.var-1":"x"}`, ""},
		{"envFrom is the old name of envSecrets", "envFrom: {A: {file: /x}}", "", "spec.envFrom: unknown field; it is called envSecrets now, a map by name: envSecrets: {DB_PASSWORD: {source: /etc/stead/secrets/db}}"},
		{"rootfs.template is gone", "rootfs: {template: x}", "", "spec.rootfs.template: unknown field; there are no templates; use host: {}, path: /DIRECTORY or image: NAME"},
		{"a network of another", "network: {mode: container, of: db}", "", "spec.network.mode: container is not supported yet; until then: host, where the program's ports are the host's, or none|spec.network.of: not supported yet; until then: network: {mode: host} for both of them"},
		{"a command that is arguments", "command: [-g, daemon off;]", "", `spec.command[0]: found "-g", want the program to run; options go into args`},

		{"privileged", "privileged: true", "", "spec.privileged: unknown field; name what it needs: devices, security.capabilities.add, sysctls, security.pid: host or security.userns: host"},
		{"privileged below security", "security: {privileged: true}", "", "spec.security.privileged: unknown field; name what it needs: devices, security.capabilities.add, sysctls, security.pid: host or security.userns: host"},
		{"build", "build: .", "", "spec.build: unknown field; nothing is built here: have the image made elsewhere, and write rootfs: {image: REFERENCE}"},
		{"tty", "tty: true", "", "spec.tty: unknown field; stead exec -it NAME opens a terminal in it"},
		{"stdin_open", "stdin_open: true", "", "spec.stdin_open: unknown field; stead exec -it NAME opens a terminal in it"},
		{"links", "links: [db]", "", "spec.links: unknown field; with network: {mode: host} containers reach each other at 127.0.0.1"},
		{"expose", "expose: [80]", "", "spec.expose: unknown field; with network: {mode: host} containers reach each other at 127.0.0.1"},
		{"profiles", "profiles: [debug]", "", "spec.profiles: unknown field; suspend: true keeps it stopped, and hosts says where it runs"},
		{"extends", "extends: base", "", "spec.extends: unknown field; what containers have in common goes into container.d/ beside the manifests, and what one has besides into NAME.container.d/"},
		{"logging", "logging: {driver: journald}", "", "spec.logging: unknown field; output is kept in files, which logs limits: logs: {maxSize: 10Mi, keep: 5}; ship these, as stead logs -f prints them"},
		{"pull_policy", "pull_policy: always", "", "spec.pull_policy: unknown field; an image is pulled when it is missing, for the platform of this host; stead image pull pulls it again"},
		{"platform", "platform: linux/arm64", "", "spec.platform: unknown field; an image is pulled when it is missing, for the platform of this host; stead image pull pulls it again"},
		{"limits of one device", "resources: {io: {rbps: 1}}", "", "spec.resources.io.rbps: unknown field; there are no limits for single devices; weight shares them out"},
		{"the OOM score", "oom_score_adj: 500", "", "spec.oom_score_adj: unknown field; there is no score: resources: {memory: 256Mi} has the kernel end a container's own processes, and memoryLow protects it from others"},
		{"ExecStartPre", "ExecStartPre: x", "", `spec.ExecStartPre: unknown field; until dependsOn is supported, do it in the command: [sh, -c, "prepare && exec server"]`},
		{"healthcheck", "healthcheck: {test: x}", "", "spec.healthcheck: unknown field; did you mean health? It is not supported yet; until then: a timer that runs stead exec NAME -- CHECK, and stead restart NAME when that fails"},
	} {
		t.Run(row.summary, func(t *testing.T) {
			doc := parseOne(t, fieldRow{line: row.line}.manifest())
			var errs []string
			for _, e := range doc.Errors {
				errs = append(errs, e.Path+": "+e.Message)
				if e.File != "web.yaml" || e.Line < 8-3 || e.Column == 0 {
					t.Errorf("%s: stands at %s:%d:%d", e.Path, e.File, e.Line, e.Column)
				}
			}
			if got := strings.Join(errs, "|"); got != row.refused {
				t.Fatalf("%s\ngot  %s\nwant %s", row.line, got, row.refused)
			}
			if row.refused != "" {
				return
			}
			field, _, _ := strings.Cut(row.line, ":")
			var fields map[string]json.RawMessage
			if err := json.Unmarshal([]byte(asJSON(t, doc.Container.Spec)), &fields); err != nil {
				t.Fatal(err)
			}
			if got := string(fields[field]); got != row.normal {
				t.Errorf("%s\ngot  %s\nwant %s", row.line, got, row.normal)
			}
			if err := bySchema(t, validator(t), []byte(fieldRow{line: row.line}.manifest())); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
			var again Container // a record on disk is read as it was written
			if err := json.Unmarshal([]byte(asJSON(t, doc.Container)), &again); err != nil || !reflect.DeepEqual(&again, doc.Container) {
				t.Errorf("read back from JSON it is %s (%v)", asJSON(t, again), err)
			}
		})
	}
}

// A sound manifest may still hardly mean what it says.
func TestWarnings(t *testing.T) {
	for _, row := range []struct{ summary, line, want string }{
		{"$$X is no escape", `args: [-c, "echo $$HOME $$"]`, `web.yaml:8:14: spec.args[1]: found $$HOME, which stays as it is, and is a shell's process id followed by "HOME"; a plain $ needs no second one here`},
		{"$$ and $${", `args: [-c, "echo $$ $$. $${X}"]`, ""},
		{"a capability over the host's network", "network: {mode: host}\n  security: {capabilities: {add: [CHOWN, CAP_NET_ADMIN]}}", "web.yaml:8:42: spec.security.capabilities.add[1]: NET_ADMIN has no effect on the host's network from a user namespace of its own; write security.userns: host, or network.mode: none"},
		{"the same as the host's root", "network: {mode: host}\n  security: {userns: host, capabilities: {add: [NET_ADMIN]}}", ""},
		{"a writable mount that backups leave out", "mounts: {/a: {source: /a}, /b: {source: /b, readOnly: true}, /c: {source: /c}}\n  backup: {include: [/c]}", "web.yaml:8:12: spec.mounts[/a]: /a is not in backups of the container; add /a to spec.backup.include, or back it up on its own"},
		{"the Docker socket", "mounts: {/s: {source: /var/run/docker.sock}}", "web.yaml:8:25: spec.mounts[/s].source: stead has no Docker API: this socket shows the containers of Docker, if any; stead ps -o json lists those of stead"},
	} {
		doc := parseOne(t, fieldRow{line: row.line}.manifest())
		if got := strings.TrimSpace(printErrors(doc.Warnings)); got != row.want || doc.Errors != nil {
			t.Errorf("%s:\ngot  %s\nwant %s (%v)", row.summary, got, row.want, doc.Errors)
		}
	}
}

// Every field that is known and not supported yet says what to do until then.
func TestLaterFieldsSayWhatToDo(t *testing.T) {
	for _, path := range append(laterFields(reflect.TypeFor[Container](), ""), "logs") {
		if laterHint(path) == "" {
			t.Errorf("%s has no word about what to do until it is supported", path)
		}
	}
}

// Each line of hints.txt is read, and the hint of a field that is supported by now goes.
func TestHintsAreWellFormed(t *testing.T) {
	later := laterFields(reflect.TypeFor[Container](), "")
	for line := range strings.Lines(hints) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		key, hint, _ := strings.Cut(line, ": ")
		place, names, _ := strings.Cut(key, " ")
		for name := range strings.SplitSeq(names, ",") {
			found := hintFor(place, name)
			if text, field, refers := strings.Cut(hint, "LATER "); found == "" || found != text+laterHint(field) || refers && laterHint(field) == "" {
				t.Errorf("%s: the hint is not found: %s", line, found)
			}
			if place == "later" && name != "logs" && !slices.ContainsFunc(later, func(f string) bool { return f == name || strings.HasPrefix(f, name+".") }) {
				t.Errorf("%s is supported: remove its hint", name)
			}
		}
	}
}

func TestForeignDocuments(t *testing.T) {
	for _, row := range []struct {
		summary, text string
		foreign       bool
	}{
		{"a manifest", head + minimal, false},
		{"a broken manifest", head + "\tx", false},
		{"an apiVersion that is misspelt", strings.Replace(head+minimal, "stead/v1", "staed/v1", 1), false},
		{"another kind of stead's", "apiVersion: stead/v1\nkind: Contaner\n", false},
		{"a manifest in UTF-16", "\xff\xfea\x00p\x00i\x00V\x00e\x00r\x00s\x00i\x00o\x00n\x00:\x00 \x00s\x00t\x00e\x00a\x00d\x00/\x00v\x001\x00", false},
		{"an application's configuration", "server: {port: 80}\n", true},
		{"one that is a template for it", "{{ range .x }}\na: [\n", true},
		{"Kubernetes", "apiVersion: v1\nkind: Pod\n", true},
		{"nothing, which is a manifest that was emptied rather than anybody's configuration", "", false},
	} {
		for _, doc := range (Parser{}).Parse("x.yaml", []byte(row.text)) {
			if doc.Foreign != row.foreign {
				t.Errorf("%s: foreign %t, want %t", row.summary, doc.Foreign, row.foreign)
			}
		}
	}
}

// A record of before the language's last changes of shape means what it meant.
func TestOldRecord(t *testing.T) {
	old := `{"apiVersion":"stead/v1","kind":"Container","metadata":{"name":"web"},"spec":{"rootfs":{"host":{}},"command":["sh"],"workingDir":"/","user":"0","hostname":"web",
		"ulimits":{"nofile":65536},"resources":{},"mounts":{"/data":{"source":"/srv/data"},"/tmp":{"tmpfs":{"size":1048576}}},"network":{"mode":"none"},
		"security":{"capabilities":{},"seccomp":"default","userns":"auto","noNewPrivileges":true,"devices":["/dev/fuse","/dev/kvm:r"]},
		"restart":{"policy":"never","backoff":{"initial":"1s","max":"5m"}},"stop":{"signal":"TERM","timeout":"10s"},"runOnce":"boot","logs":{"maxSize":10485760,"keep":5}}}`
	var c Container
	if err := json.Unmarshal([]byte(old), &c); err != nil {
		t.Fatal(err)
	}
	c.Default()
	now := valid(t, head+minimal+`  ulimits: {nofile: 65536}
  mounts: {/data: {source: /srv/data}, /tmp: {tmpfs: {size: 1Mi}}}
  devices: {/dev/fuse: {}, /dev/kvm: {access: r}}
  restart: {policy: never}
  rerun: on-boot
`)
	if d := Diff(&c, now); d != nil {
		t.Errorf("an upgrade would change the container: %v", d)
	}
}
