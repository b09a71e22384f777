package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"stead/runtime/status"
)

// What a workload sees of its confinement by default. A line that changes here
// changes what containers may do.
const probed = `descriptors	[0 1 2]
environment	GORACE HOME HOSTNAME INSIDE PATH STEAD_NAME container
working directory	/ <nil>
CapInh	0
CapPrm	a80425fb
CapEff	a80425fb
CapBnd	a80425fb
CapAmb	0
NoNewPrivs	1
Seccomp	2
namespace cgroup	its own
namespace ipc	its own
namespace mnt	its own
namespace net	its own
namespace pid	its own
namespace user	its own
namespace uts	its own
its root is the host's	no
call mount	refused
call umount2	refused
call pivot_root	refused
call unshare user	refused
call unshare mnt	refused
call setns	refused
call open_tree	refused
call fsopen	refused
call move_mount	refused
call mount_setattr	refused
call sethostname	refused
call bpf	refused
call perf_event_open	refused
call userfaultfd	refused
call io_uring_setup	refused
call keyctl	refused
call add_key	refused
call request_key	refused
call init_module	refused
call finit_module	refused
call delete_module	refused
call kexec_load	refused
call reboot	refused
call swapon	refused
call acct	refused
call quotactl	refused
call clock_settime	refused
call settimeofday	refused
call syslog	refused
call vhangup	refused
call open_by_handle_at	refused
call process_vm_readv	works
call personality	refused
call socket AF_VSOCK	refused
call mknod of a device	refused
mount /	rw,nodev
mount /proc	proc rw,nosuid,nodev,noexec
mount /proc/sys	proc ro,nosuid,nodev,noexec
mount /sys	sysfs ro,nosuid,nodev,noexec
mount /sys/fs/cgroup	no mount
mount /dev	tmpfs rw,nosuid,noexec
mount /dev/pts	devpts rw,nosuid,noexec
mount /dev/shm	tmpfs rw,nosuid,nodev,noexec
mount /dev/mqueue	mqueue rw,nosuid,nodev,noexec
hidden files that can be read	none
kernel files that can be written	none
devices that open	full null random urandom zero
`

// TestProbe runs the probe as a workload with the defaults.
func TestProbe(t *testing.T) {
	w := newWorld(t)
	if err := w.evil("web", "probe", "", "args: ["+strings.Join(hostNamespaces(), ", ")+"]"); err != nil {
		t.Fatal(err)
	}
	w.await("web", status.Exited)
	if got := w.output("web"); got != probed {
		t.Errorf("got\n%s", lineDiff(got, probed))
	}
	// Without a user namespace only this differs, and that root owns the kernel's
	// files: which these are depends on the kernel.
	if err := w.evil("host", "probe", "", "args: ["+strings.Join(hostNamespaces(), ", ")+"]\nsecurity: {userns: host}"); err != nil {
		t.Fatal(err)
	}
	w.await("host", status.Exited)
	want := strings.NewReplacer("namespace user\tits own", "namespace user\tthe host's", "its root is the host's\tno", "its root is the host's\tyes",
		"mknod of a device\trefused", "mknod of a device\tworks").Replace(probed) // to open it does not
	const files = "kernel files that can be written\t"
	for line := range strings.Lines(lineDiff(w.output("host"), want)) {
		if !strings.Contains(line, files) {
			t.Errorf("userns: host: %s", line)
		}
	}
}

// hostNamespaces are those of this process.
func hostNamespaces() (all []string) {
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"} {
		if link, err := os.Readlink("/proc/self/ns/" + ns); err == nil {
			all = append(all, "'"+link+"'")
		}
	}
	return all
}

func lineDiff(got, want string) string {
	var out strings.Builder
	for line := range strings.Lines(got) {
		if !strings.Contains(want, line) {
			out.WriteString("+ " + line)
		}
	}
	for line := range strings.Lines(want) {
		if !strings.Contains(got, line) {
			out.WriteString("- " + line)
		}
	}
	return out.String()
}

// TestProbePeers runs the probe under crun and podman too, where they are
// installed, and prints how the answers differ. It needs a static program: make
// probe.
func TestProbePeers(t *testing.T) {
	if os.Getenv("STEAD_TEST_PEERS") == "" {
		t.Skip("only for make probe")
	}
	w := newWorld(t)
	root := w.path("root")
	os.MkdirAll(root+"/tmp", 0o777)
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(root+"/probe", self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(w.path(""), 0o755) // user namespaces of others go through it
	answers := map[string]map[string]string{"stead": parseProbe(probed)}
	names := []string{"stead"}
	for _, peer := range []struct{ name, script string }{
		{"crun", `mkdir "$2/bundle" && cd "$2/bundle" && crun spec && sed -i -e 's|"terminal": true|"terminal": false|' -e 's|"path": "rootfs"|"path": "'"$1"'"|' config.json &&
			python3 -c 'import json,sys; c=json.load(open("config.json")); p=c["process"]; p["args"]=["/probe"]+sys.argv[1:]; p["env"].append("INSIDE=probe"); c["root"]["readonly"]=False; json.dump(c,open("config.json","w"))' $3 &&
			crun --root "$2/crun" run stead-probe-$$`},
		{"podman", `podman --root "$2/storage" --runroot "$2/runroot" --tmpdir "$2/tmp" --cgroup-manager cgroupfs --events-backend none run --rm --network none --log-driver none --cgroup-parent "/probe-${2##*/}" --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
			--env INSIDE=probe --rootfs "$1" /probe $3; code=$?; find /sys/fs/cgroup/*/probe-"${2##*/}" -depth -type d -exec rmdir {} + ; exit $code`},
	} {
		if _, err := exec.LookPath(peer.name); err != nil {
			t.Logf("%s is not installed", peer.name)
			continue
		}
		// They refuse a hybrid host unless they don't see its cgroup2 mount.
		cmd := exec.Command("unshare", "--mount", "sh", "-c", "umount /sys/fs/cgroup/unified 2>/dev/null; "+peer.script, "sh",
			root, w.path(""), strings.ReplaceAll(strings.Join(hostNamespaces(), " "), "'", ""))
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "devices that open") {
			t.Errorf("%s: %v\n%s", peer.name, err, out)
			continue
		}
		answers[peer.name] = parseProbe(string(out))
		names = append(names, peer.name)
	}
	var table strings.Builder
	for line := range strings.Lines(probed) {
		key, _, _ := strings.Cut(line, "\t")
		differ := false
		for _, name := range names {
			differ = differ || answers[name][key] != answers["stead"][key]
		}
		if differ {
			for _, name := range names {
				fmt.Fprintf(&table, "%-34s %-8s %s\n", key, name, answers[name][key])
			}
		}
	}
	t.Logf("%d answers; those that differ:\n%s", len(answers["stead"]), table.String())
}

func parseProbe(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "\t"); ok {
			all[key] = value
		}
	}
	return all
}
