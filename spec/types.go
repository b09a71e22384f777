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
// `oneof` tag a struct has exactly one; a field with a `with` tag belongs to the
// one that it names. The comments are the manifest reference: after a change run
// `go generate ./spec`. Fields with the yaml name "-" are read from old records
// only.

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
	Boot   Later  `yaml:"boot,omitempty" json:"-"`
	// The program to run and its first arguments. Without a slash it is looked up in the container's PATH.
	Command []string `yaml:"command" json:"command" effect:"restart"`
	// Further arguments, appended to `command`.
	Args []string `yaml:"args,omitempty" json:"args,omitempty" effect:"restart"`
	// Environment variables. A number keeps its text; a bool or null is refused: quote it. A name is anything without `=`.
	Env        map[string]Text `yaml:"env,omitempty" json:"env,omitempty" effect:"restart"`
	EnvFiles   Later           `yaml:"envFiles,omitempty" json:"-"`
	EnvSecrets Later           `yaml:"envSecrets,omitempty" json:"-"`
	// Working directory inside the root.
	WorkingDir string `yaml:"workingDir,omitempty" json:"workingDir,omitempty" effect:"restart" default:"/"`
	// User name or id, optionally `:group`. What is all digits is an id, 0 to 65535; names are looked up in the root's own /etc/passwd and /etc/group.
	User Text `yaml:"user,omitempty" json:"user,omitempty" effect:"restart" default:"0"`
	// Supplementary groups, names or ids.
	Groups []Text `yaml:"groups,omitempty" json:"groups,omitempty" effect:"restart"`
	// Host name inside the container, which may hold dots; the container's name if absent.
	Hostname string `yaml:"hostname,omitempty" json:"hostname,omitempty" effect:"restart" default:"${stead.name}"`
	// A reaping first process before the command: it collects orphans, passes signals on and ends as the command does.
	Init bool `yaml:"init,omitempty" json:"init,omitempty" effect:"restart"`
	// Resource limits of processes by their setrlimit(2) name in lower case (nofile, nproc, memlock, …): a number or `unlimited`, soft and hard limit alike, or `{soft: 1024, hard: 65536}`. An absent one is stead's own default (`nofile` 1024 soft, 524288 hard), never what the daemon happened to have.
	Ulimits map[string]Ulimit `yaml:"ulimits,omitempty" json:"ulimits,omitempty" effect:"restart"`
	// Limits of the container as a whole, kept by its cgroup. An absent one is no limit.
	Resources Resources `yaml:"resources,omitempty" json:"resources,omitempty" effect:"live"`
	// Kernel settings of the container's own namespaces, by name: `net.*` with a network of its own, `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`.
	Sysctls map[string]Text `yaml:"sysctls,omitempty" json:"sysctls,omitempty" effect:"restart"`
	// Mounts by their target inside the root, each exactly one of `source` and `tmpfs`. `/dev/shm` may have a tmpfs of another size than 64Mi.
	Mounts map[string]Mount `yaml:"mounts,omitempty" json:"mounts,omitempty" effect:"restart"`
	Files  Later            `yaml:"files,omitempty" json:"-"`
	Reload Later            `yaml:"reload,omitempty" json:"-"`
	// Network of the container.
	Network Network `yaml:"network" json:"network" effect:"restart"`
	// What the processes may do.
	Security Security `yaml:"security,omitempty" json:"security,omitempty" effect:"restart"`
	// Devices of the host besides the usual ones, by their path inside, below /dev.
	Devices map[string]Device `yaml:"devices,omitempty" json:"devices,omitempty" effect:"restart"`
	// What happens when the command ends.
	Restart Restart `yaml:"restart,omitempty" json:"restart,omitempty" effect:"live"`
	// How the command is asked to end.
	Stop      Stop  `yaml:"stop,omitempty" json:"stop,omitempty" effect:"live"`
	Health    Later `yaml:"health,omitempty" json:"-"`
	DependsOn Later `yaml:"dependsOn,omitempty" json:"-"`
	Update    Later `yaml:"update,omitempty" json:"-"`
	Schedule  Later `yaml:"schedule,omitempty" json:"-"`
	// With restart policy `never` or `on-failure`: a container that has run is done until its manifest changes in a way that needs a restart (`on-change`), or until the next boot (`on-boot`).
	Rerun  string `yaml:"rerun,omitempty" json:"rerun,omitempty" enum:"on-change|on-boot" default:"on-change" effect:"live"`
	Backup Later  `yaml:"backup,omitempty" json:"-"`
	// How much output is kept.
	Logs Logs `yaml:"logs,omitempty" json:"logs,omitempty" effect:"live"`

	OldRunOnce string `yaml:"-" json:"runOnce,omitempty" jsonschema:"-"` // now Rerun; Default converts it
}

// Rootfs says which directory is the container's root.
type Rootfs struct {
	// The host's own /usr, read-only, in a private writable root that belongs to the container: nothing to download.
	Host *HostRoot `yaml:"host,omitempty" json:"host,omitempty" oneof:"root"`
	// A directory of the host, used in place; absolute. Links on the way to it are followed only where only the host's root can have made them.
	Path          string `yaml:"path,omitempty" json:"path,omitempty" oneof:"root"`
	Image         Later  `yaml:"image,omitempty" json:"-" oneof:"root"`
	OnImageChange Later  `yaml:"onImageChange,omitempty" json:"-"`
	Size          Later  `yaml:"size,omitempty" json:"-"`
	// The root can't be written; mounts can, as they say themselves.
	ReadOnly bool `yaml:"readOnly,omitempty" json:"readOnly,omitempty"`
}

// HostRoot has no fields yet: `host: {}`.
type HostRoot struct{}

// Resources are limits of the whole container. All change live.
type Resources struct {
	// Memory, bytes with `Ki`, `Mi`, `Gi`, `Ti`; at least `1Mi`.
	Memory *Bytes `yaml:"memory,omitempty" json:"memory,omitempty"`
	// Memory that is taken from the container last when the host runs short: at most `memory`.
	MemoryLow *Bytes `yaml:"memoryLow,omitempty" json:"memoryLow,omitempty"`
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

// Ulimit is one resource limit, written as a number, `unlimited` or a map.
type Ulimit struct {
	// In effect, and the process's to raise up to the hard limit.
	Soft Limit `yaml:"soft" json:"soft"`
	// The most that the process may raise it to.
	Hard Limit `yaml:"hard" json:"hard"`
}

// Mount is one mount, by its target. Mounts are nosuid and nodev.
type Mount struct {
	// File or directory of the host to show there; absolute, and must be there, with links as in `rootfs.path`.
	Source string `yaml:"source,omitempty" json:"source,omitempty" oneof:"mount"`
	// An empty file system in memory.
	Tmpfs  *Tmpfs `yaml:"tmpfs,omitempty" json:"tmpfs,omitempty" oneof:"mount"`
	Volume Later  `yaml:"volume,omitempty" json:"-" oneof:"mount"`
	Shared Later  `yaml:"shared,omitempty" json:"-"`
	// Make the source, a directory, when it is not there. The directory that it is to lie in must be there.
	Create bool `yaml:"create,omitempty" json:"create,omitempty" with:"source"`
	// The source must be a mount point of the host, which is checked before each start.
	MountPoint bool `yaml:"mountPoint,omitempty" json:"mountPoint,omitempty" with:"source"`
	// What is mounted below the source comes along, `readOnly` and with ids mapped like the source itself.
	Recursive *bool `yaml:"recursive,omitempty" json:"recursive,omitempty" default:"true" with:"source"`
	// With `slave`, what the host mounts below the source later shows inside, too. It needs `security.userns: host`, since such mounts have no ids mapped, and can't be `readOnly`.
	Propagation string `yaml:"propagation,omitempty" json:"propagation,omitempty" enum:"private|slave" default:"private" with:"source"`
	// Map ids, so that a file's owner has the same number inside as on the host. `false` is for file systems that can't (NFS, CIFS): the container then may do there what others than the owner may.
	IDMap *bool `yaml:"idmap,omitempty" json:"idmap,omitempty" default:"true" with:"source"`
	// Owner of a tmpfs (root if absent) or of what `create` makes (`user` if absent): a name or id, optionally `:group`.
	Owner Text `yaml:"owner,omitempty" json:"owner,omitempty"`
	// Mode of a tmpfs (`"1777"` if absent) or of what `create` makes (`"0755"` if absent), as text.
	Mode string `yaml:"mode,omitempty" json:"mode,omitempty"`
	// It can't be written from inside.
	ReadOnly bool `yaml:"readOnly,omitempty" json:"readOnly,omitempty"`
}

// Device is a device of the host, by its path inside.
type Device struct {
	// Path of the device on the host, with links followed; the path inside if absent. A directory means all devices in it.
	Source string `yaml:"source,omitempty" json:"source,omitempty"`
	CDI    Later  `yaml:"cdi,omitempty" json:"-"`
	// Owner of the device inside: a name or id, optionally `:group`; root if absent.
	Owner Text `yaml:"owner,omitempty" json:"owner,omitempty"`
	// Mode of the device inside, as text; if absent every user inside may open it.
	Mode string `yaml:"mode,omitempty" json:"mode,omitempty"`
	// What the container as a whole may do with it: read, write or both.
	Access string `yaml:"access,omitempty" json:"access,omitempty" enum:"r|w|rw" default:"rw"`
	// Start without it where the host has no such device.
	Optional bool `yaml:"optional,omitempty" json:"optional,omitempty"`
}

// Tmpfs is a file system in memory, charged to the container.
type Tmpfs struct {
	// Most it may hold, bytes with `Ki`, `Mi`, `Gi`, `Ti`.
	Size *Bytes `yaml:"size,omitempty" json:"size,omitempty" default:"64Mi"`
}

// Network is what the container sees of the network.
type Network struct {
	// `none`: a network of its own with nothing but loopback. `host`: the host's.
	Mode         string `yaml:"mode" json:"mode" enum:"none|host"`
	Of           Later  `yaml:"of,omitempty" json:"-"`
	Networks     Later  `yaml:"networks,omitempty" json:"-"`
	DefaultRoute Later  `yaml:"defaultRoute,omitempty" json:"-"`
	ExtraHosts   Later  `yaml:"extraHosts,omitempty" json:"-"`
	DNS          Later  `yaml:"dns,omitempty" json:"-"`
	Ports        Later  `yaml:"ports,omitempty" json:"-"`
	Bandwidth    Later  `yaml:"bandwidth,omitempty" json:"-"`
}

// Security is what the processes of the container may do.
type Security struct {
	// Capabilities besides, or out of, the default fourteen.
	Capabilities Capabilities `yaml:"capabilities,omitempty" json:"capabilities,omitempty"`
	// System call filter: `default` (the one that Docker and Podman use) or `unconfined`.
	Seccomp string `yaml:"seccomp,omitempty" json:"seccomp,omitempty" enum:"default|unconfined" default:"default"`
	// User namespace: `auto` maps the container's ids to 65,536 of its own on the host; `host` doesn't, so that its root is the host's.
	Userns string `yaml:"userns,omitempty" json:"userns,omitempty" enum:"auto|host" default:"auto"`
	// No program inside gains privileges by execve (set-user-ID, file capabilities). `sudo`, `su`, Postfix and some builds of `ping` need it `false`.
	NoNewPrivileges *bool `yaml:"noNewPrivileges,omitempty" json:"noNewPrivileges,omitempty" default:"true"`
	// Processes that it sees: `private` its own alone, `host` all of the host, for agents that watch it; that needs `userns: host`.
	Pid string `yaml:"pid,omitempty" json:"pid,omitempty" enum:"private|host" default:"private"`

	OldDevices []string `yaml:"-" json:"devices,omitempty" jsonschema:"-"` // now Spec.Devices; Default converts them
}

// Capabilities are names as in capabilities(7), with or without CAP_, or `ALL`.
type Capabilities struct {
	// Kept besides the default ones, by name, with or without `CAP_`, or `ALL`. For another user than root they are ambient, so that the command has them.
	Add []string `yaml:"add,omitempty" json:"add,omitempty"`
	// Taken away from the default ones; `ALL` leaves those in `add` alone.
	Drop []string `yaml:"drop,omitempty" json:"drop,omitempty"`
}

// Restart is what happens when the command ends by itself.
type Restart struct {
	// `always`, `on-failure` (another exit code than 0) or `never`.
	Policy string `yaml:"policy,omitempty" json:"policy,omitempty" enum:"always|on-failure|never" default:"always"`
	// How long is waited before the next start. Doubles with each failure; a run of at least `max` resets it.
	Backoff Backoff `yaml:"backoff,omitempty" json:"backoff,omitempty"`
	// Restarts in a row before it is given up as failed, 1 or more; absent is no limit.
	MaxRetries *int64 `yaml:"maxRetries,omitempty" json:"maxRetries,omitempty"`
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
	Before  Later    `yaml:"before,omitempty" json:"-"`
}

// Logs is how much output is kept on disk.
type Logs struct {
	// Size at which a log file is rotated, bytes with `Ki`, `Mi`, `Gi`; at least `64Ki`.
	MaxSize Bytes `yaml:"maxSize,omitempty" json:"maxSize,omitempty" default:"10Mi"`
	// Rotated files that are kept besides the current one, 0 to 100.
	Keep *int64 `yaml:"keep,omitempty" json:"keep,omitempty" default:"5"`
}
