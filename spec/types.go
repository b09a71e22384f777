package spec

// APIVersion is the one version of the manifest language. Its defaults are
// frozen: a manifest means the same with every later release.
const APIVersion = "stead/v1"

// Kind is the one kind of manifest that is served so far.
const Kind = "Container"

//go:generate go test -run ^TestGenerated$ -update .

// The `effect` tag of a field says what a change of it takes: "live" (done in
// place) or "restart" (the processes are stopped and started again, the root is
// kept). A struct's tag holds for all below it unless a field has its own.
// Fields of type Later are known to the language and refused for now.
//
// The `default` tag is what an absent field means, `enum` lists the only choices.
// A field whose yaml tag lacks omitempty is required. Of the fields with a
// `oneof` tag a struct has exactly one. The comments are the manifest reference:
// after a change run `go generate ./spec`.

// Container is one manifest: what should run on this host under one name.
type Container struct {
	// Version of the manifest language: `stead/v1`.
	APIVersion string `yaml:"apiVersion" json:"apiVersion" enum:"stead/v1"`
	// Kind of the manifest: `Container`.
	Kind string `yaml:"kind" json:"kind" enum:"Container"`
	// Who the container is.
	Metadata Metadata `yaml:"metadata" json:"metadata" effect:"live"`
	// What it runs, where and within which limits.
	Spec Spec `yaml:"spec" json:"spec"`
}

// Metadata names a container. The name is its identity: moving or renaming the
// file that holds it changes nothing.
type Metadata struct {
	// Name of the container on this host: a DNS label of at most 63 characters (`a-z`, `0-9`, `-`).
	Name string `yaml:"name" json:"name"`
	// Labels to select by.
	Labels map[string]string `yaml:"labels,omitempty" json:"labels,omitempty"`
	// Notes for people and tools; stead never acts on them.
	Annotations map[string]string `yaml:"annotations,omitempty" json:"annotations,omitempty"`
}

// Spec is what a container runs.
type Spec struct {
	// Hosts that it is for, by patterns: `web-*` means the short host name, `*.example.com`, with a dot, the whole one; `!web-9` takes one out. Absent is every host.
	Hosts    []string `yaml:"hosts,omitempty" json:"hosts,omitempty" effect:"live"`
	Replicas Later    `yaml:"replicas,omitempty" json:"-"`
	// Declared, but stopped.
	Suspend bool `yaml:"suspend,omitempty" json:"suspend,omitempty" effect:"live"`
	// Its removal always needs a confirmation (`stead apply --confirm-removal`).
	Protect bool `yaml:"protect,omitempty" json:"protect,omitempty" effect:"live"`
	// The container's root directory: exactly one of `host` and `path`.
	Rootfs Rootfs `yaml:"rootfs" json:"rootfs" effect:"restart"`
	// The program to run and its first arguments. Without a slash it is looked up in the container's PATH.
	Command []string `yaml:"command" json:"command" effect:"restart"`
	// Further arguments, appended to `command`.
	Args []string `yaml:"args,omitempty" json:"args,omitempty" effect:"restart"`
	// Environment variables. A number keeps its text; a bool or null is refused: quote it.
	Env     map[string]Text `yaml:"env,omitempty" json:"env,omitempty" effect:"restart"`
	EnvFrom Later           `yaml:"envFrom,omitempty" json:"-"`
	// Working directory inside the root.
	WorkingDir string `yaml:"workingDir,omitempty" json:"workingDir,omitempty" effect:"restart" default:"/"`
	// User name or id, optionally `:group`. What is all digits is an id, 0 to 65535; names are looked up in the root's own /etc/passwd and /etc/group.
	User Text `yaml:"user,omitempty" json:"user,omitempty" effect:"restart" default:"0"`
	// Supplementary groups, names or ids.
	Groups []Text `yaml:"groups,omitempty" json:"groups,omitempty" effect:"restart"`
	// Host name inside the container; the container's name if absent.
	Hostname string `yaml:"hostname,omitempty" json:"hostname,omitempty" effect:"restart" default:"${stead.name}"`
	// A reaping first process before the command: it collects orphans, passes signals on and ends as the command does.
	Init bool `yaml:"init,omitempty" json:"init,omitempty" effect:"restart"`
	// Resource limits of processes by their setrlimit(2) name in lower case (nofile, nproc, memlock, …); soft and hard limit alike.
	Ulimits map[string]int64 `yaml:"ulimits,omitempty" json:"ulimits,omitempty" effect:"restart"`
	// Limits of the container as a whole, kept by its cgroup. An absent one is no limit.
	Resources Resources `yaml:"resources,omitempty" json:"resources,omitempty" effect:"live"`
	// Mounts by their target inside the root, each exactly one of `source` and `tmpfs`.
	Mounts map[string]Mount `yaml:"mounts,omitempty" json:"mounts,omitempty" effect:"restart"`
	Files  Later            `yaml:"files,omitempty" json:"-"`
	Reload Later            `yaml:"reload,omitempty" json:"-"`
	// Network of the container.
	Network Network `yaml:"network" json:"network" effect:"restart"`
	// What the processes may do.
	Security Security `yaml:"security,omitempty" json:"security,omitempty" effect:"restart"`
	// What happens when the command ends.
	Restart Restart `yaml:"restart,omitempty" json:"restart,omitempty" effect:"live"`
	// How the command is asked to end.
	Stop      Stop  `yaml:"stop,omitempty" json:"stop,omitempty" effect:"live"`
	Health    Later `yaml:"health,omitempty" json:"-"`
	DependsOn Later `yaml:"dependsOn,omitempty" json:"-"`
	Update    Later `yaml:"update,omitempty" json:"-"`
	Schedule  Later `yaml:"schedule,omitempty" json:"-"`
	// With restart policy `never` or `on-failure`: whether a container that has run is done for good (`spec`) or until the next boot (`boot`). A change that needs a restart runs it again.
	RunOnce string `yaml:"runOnce,omitempty" json:"runOnce,omitempty" enum:"spec|boot" default:"spec" effect:"live"`
	Backup  Later  `yaml:"backup,omitempty" json:"-"`
	// How much output is kept.
	Logs Logs `yaml:"logs,omitempty" json:"logs,omitempty" effect:"live"`
}

// Rootfs says which directory is the container's root.
type Rootfs struct {
	// The host's own /usr, read-only, in a private writable root that belongs to the container: nothing to download.
	Host *HostRoot `yaml:"host,omitempty" json:"host,omitempty" oneof:"root"`
	// A directory of the host, used in place; absolute. Links on the way to it are followed only where only the host's root can have made them.
	Path     string `yaml:"path,omitempty" json:"path,omitempty" oneof:"root"`
	Image    Later  `yaml:"image,omitempty" json:"-" oneof:"root"`
	Template Later  `yaml:"template,omitempty" json:"-" oneof:"root"`
	// The root can't be written; mounts can, as they say themselves.
	ReadOnly bool `yaml:"readOnly,omitempty" json:"readOnly,omitempty"`
}

// HostRoot has no fields yet: `host: {}`.
type HostRoot struct{}

// Resources are limits of the whole container. All change live.
type Resources struct {
	// Memory, bytes with `Ki`, `Mi`, `Gi`, `Ti`; at least `1Mi`.
	Memory *Bytes `yaml:"memory,omitempty" json:"memory,omitempty"`
	// Swap on top of `memory`, which it needs; `0` is no swap.
	Swap *Bytes `yaml:"swap,omitempty" json:"swap,omitempty"`
	// CPU time per time: cores (`0.5`, `2`) or thousandths of one (`500m`); at least `10m`.
	CPU *CPU `yaml:"cpu,omitempty" json:"cpu,omitempty"`
	// Share of CPU time when it is scarce, 1 to 10000; 100 where absent.
	CPUWeight *int64 `yaml:"cpuWeight,omitempty" json:"cpuWeight,omitempty"`
	// Number of processes and threads, 1 to 4194304.
	Pids *int64 `yaml:"pids,omitempty" json:"pids,omitempty"`
	// CPUs it may run on, as in `0-1,4`.
	Cpuset string `yaml:"cpuset,omitempty" json:"cpuset,omitempty"`
	// Block devices.
	IO *IO `yaml:"io,omitempty" json:"io,omitempty"`
}

// IO is the share of block devices.
type IO struct {
	// Share of disk time when it is scarce, 1 to 10000.
	Weight *int64 `yaml:"weight,omitempty" json:"weight,omitempty"`
}

// Mount is one mount, by its target. Mounts are nosuid and nodev.
type Mount struct {
	// File or directory of the host to show there; absolute, and must be there, with links as in `rootfs.path`. Mounts below it are not carried along.
	Source string `yaml:"source,omitempty" json:"source,omitempty" oneof:"mount"`
	// An empty file system in memory.
	Tmpfs  *Tmpfs `yaml:"tmpfs,omitempty" json:"tmpfs,omitempty" oneof:"mount"`
	Volume Later  `yaml:"volume,omitempty" json:"-" oneof:"mount"`
	Shared Later  `yaml:"shared,omitempty" json:"-"`
	Owner  Later  `yaml:"owner,omitempty" json:"-"`
	Mode   Later  `yaml:"mode,omitempty" json:"-"`
	// It can't be written from inside.
	ReadOnly bool `yaml:"readOnly,omitempty" json:"readOnly,omitempty"`
}

// Tmpfs is a file system in memory, charged to the container.
type Tmpfs struct {
	// Most it may hold, bytes with `Ki`, `Mi`, `Gi`, `Ti`.
	Size *Bytes `yaml:"size,omitempty" json:"size,omitempty" default:"64Mi"`
}

// Network is what the container sees of the network.
type Network struct {
	// `none`: a network of its own with nothing but loopback. `host`: the host's.
	Mode  string `yaml:"mode" json:"mode" enum:"none|host"`
	Ports Later  `yaml:"ports,omitempty" json:"-"`
}

// Security is what the processes of the container may do.
type Security struct {
	// Capabilities besides, or out of, the default fourteen.
	Capabilities Capabilities `yaml:"capabilities,omitempty" json:"capabilities,omitempty"`
	// System call filter: `default` (the one that Docker and Podman use) or `unconfined`.
	Seccomp string `yaml:"seccomp,omitempty" json:"seccomp,omitempty" enum:"default|unconfined" default:"default"`
	// User namespace: `auto` maps the container's ids to 65,536 of its own on the host; `host` doesn't, so that its root is the host's.
	Userns string `yaml:"userns,omitempty" json:"userns,omitempty" enum:"auto|host" default:"auto"`
	// No program inside gains privileges by execve (set-user-ID, file capabilities).
	NoNewPrivileges *bool `yaml:"noNewPrivileges,omitempty" json:"noNewPrivileges,omitempty" default:"true"`
	// Devices of the host besides the usual ones, by their path: `/dev/fuse`, or `/dev/fuse:r` to only read and `:w` to only write. Every user inside may open them.
	Devices []string `yaml:"devices,omitempty" json:"devices,omitempty"`
}

// Capabilities are names as in capabilities(7), without CAP_, or `ALL`.
type Capabilities struct {
	// Kept besides the default ones. For another user than root they are ambient, so that the command has them.
	Add []string `yaml:"add,omitempty" json:"add,omitempty"`
	// Taken away from the default ones.
	Drop []string `yaml:"drop,omitempty" json:"drop,omitempty"`
}

// Restart is what happens when the command ends by itself.
type Restart struct {
	// `always`, `on-failure` (another exit code than 0) or `never`.
	Policy string `yaml:"policy,omitempty" json:"policy,omitempty" enum:"always|on-failure|never" default:"always"`
	// How long is waited before the next start. Doubles with each failure; a run of at least `max` resets it.
	Backoff Backoff `yaml:"backoff,omitempty" json:"backoff,omitempty"`
	// Restarts in a row before it is given up as failed; 0 is no limit.
	MaxRetries int64 `yaml:"maxRetries,omitempty" json:"maxRetries,omitempty" default:"0"`
}

// Backoff is a delay that grows.
type Backoff struct {
	// The first delay.
	Initial Duration `yaml:"initial,omitempty" json:"initial,omitempty" default:"1s"`
	// The longest delay.
	Max Duration `yaml:"max,omitempty" json:"max,omitempty" default:"5m"`
}

// Stop is how a container ends on request.
type Stop struct {
	// Signal sent to the command, a name without SIG: `TERM`, `QUIT`, `RTMIN+3`.
	Signal string `yaml:"signal,omitempty" json:"signal,omitempty" default:"TERM"`
	// How long it has to end before everything in the container is killed; more than 0.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout,omitempty" default:"10s"`
}

// Logs is how much output is kept on disk.
type Logs struct {
	// Size at which a log file is rotated, bytes with `Ki`, `Mi`, `Gi`; at least `64Ki`.
	MaxSize Bytes `yaml:"maxSize,omitempty" json:"maxSize,omitempty" default:"10Mi"`
	// Rotated files that are kept besides the current one, 0 to 100.
	Keep *int64 `yaml:"keep,omitempty" json:"keep,omitempty" default:"5"`
}
