package spec

// APIVersion is the only version of the manifest language. Its defaults never
// change: a manifest means the same in every later release.
const APIVersion = "stead/v1"

// The kinds of manifests.
const (
	Kind      = "Container"
	ImageKind = "Image"
)

//go:generate go test -run ^TestGenerated$ -update .

// The comments of the fields are the manifest reference. After a change run
// `make generate`.
//
// The struct tags mean:
//   - effect: what a change of the field does: "live" (the change is made in place) or
//     "restart" (the processes are stopped and started again; the root stays). The tag
//     of a struct holds for all fields below it that have no tag of their own.
//   - default: the value of an absent field.
//   - enum: the only values.
//   - yaml without omitempty: the field is required. With the name "-" the field is
//     read from old records only.
//   - oneof: a struct has exactly one of the fields with this tag.
//   - with: the field belongs to the named one of these.
//
// The language knows the fields of type Later and refuses them for now.

// Container is one manifest. It declares what runs on this host under one name.
type Container struct {
	// The version of the manifest language: `stead/v1`.
	APIVersion string `yaml:"apiVersion" json:"apiVersion" enum:"stead/v1"`
	// The kind of the manifest: `Container`.
	Kind string `yaml:"kind" json:"kind" enum:"Container"`
	// The name of the container and notes about it.
	Metadata Metadata `yaml:"metadata" json:"metadata" effect:"live"`
	// The program that the container runs, its surroundings and its limits.
	Spec Spec `yaml:"spec" json:"spec"`

	// Replica says which replica of a manifest with `replicas` it is; nil without. Only
	// records have it: a manifest of one replica does not exist.
	Replica *Replica `yaml:"-" json:"replica,omitempty" jsonschema:"-"`
}

// Metadata names a container. The name is the identity of the container: moving or
// renaming the manifest file changes nothing.
type Metadata struct {
	// The name of the container, unique on this host: a DNS label of at most 63 characters (`a-z`, `0-9`, `-`).
	Name string `yaml:"name" json:"name"`
	// Labels, by which commands select containers.
	Labels map[string]string `yaml:"labels,omitempty" json:"labels,omitempty"`
	// Notes for people and tools. stead never acts on them.
	Annotations map[string]string `yaml:"annotations,omitempty" json:"annotations,omitempty"`
}

// Spec describes what a container runs.
type Spec struct {
	// Patterns of the hosts that run the container. A pattern without a dot (`web-*`) is matched against the short host name, one with a dot (`*.example.com`) against the full host name. `!web-9` excludes a host. If absent, every host runs the container.
	Hosts []string `yaml:"hosts,omitempty" json:"hosts,omitempty" effect:"live"`
	// The number of containers of this manifest, 1 to 1000. They are named NAME-0, NAME-1 and so on. `${stead.index}` is the number of each, and `STEAD_INDEX` in its environment. Commands take NAME for all of them. If absent, there is one container with the name of the manifest.
	Replicas *int64 `yaml:"replicas,omitempty" json:"replicas,omitempty" effect:"live"`
	// The container stays declared but is stopped.
	Suspend bool `yaml:"suspend,omitempty" json:"suspend,omitempty" effect:"live"`
	// Removing the container always needs a confirmation (`stead apply --confirm-removal`).
	Protect bool `yaml:"protect,omitempty" json:"protect,omitempty" effect:"live"`
	// The root directory of the container: exactly one of `host`, `path` and `image`.
	Rootfs Rootfs `yaml:"rootfs" json:"rootfs" effect:"restart"`
	Boot   Later  `yaml:"boot,omitempty" json:"-"`
	// The program to run and its first arguments. A program without a slash in its name is looked up in the PATH of the container. Required, unless the root is an image: then it replaces the entrypoint and the arguments of the image.
	Command []string `yaml:"command,omitempty" json:"command,omitempty" effect:"restart"`
	// More arguments, appended to `command`. Without `command` they replace the arguments of the image.
	Args []string `yaml:"args,omitempty" json:"args,omitempty" effect:"restart"`
	// Environment variables by name, besides those of the image. A number is kept exactly as written. A bool or null is refused; quote it. A name may hold any character but `=`.
	Env map[string]Text `yaml:"env,omitempty" json:"env,omitempty" effect:"restart"`
	// Files of variables, by a name of your choice; in the order of these names a later one wins, and `env` wins over all. A file has `NAME=VALUE` on each line, comments that begin with `#`, and blank lines.
	EnvFiles map[string]EnvSource `yaml:"envFiles,omitempty" json:"envFiles,omitempty" effect:"restart"`
	// Variables whose values are secret, by name. A value is what is in a file, without one newline at its end.
	EnvSecrets map[string]EnvSource `yaml:"envSecrets,omitempty" json:"envSecrets,omitempty" effect:"restart"`
	// The working directory of the command, inside the root. If absent, it is the one of the image.
	WorkingDir string `yaml:"workingDir,omitempty" json:"workingDir,omitempty" effect:"restart" default:"/"`
	// The user that runs the command: a name or an id, optionally with `:group`. If absent, it is the one of the image. A value of digits only is an id, 0 to 65535. Names are looked up in /etc/passwd and /etc/group inside the root.
	User Text `yaml:"user,omitempty" json:"user,omitempty" effect:"restart" default:"0"`
	// Supplementary groups of the command, by name or id.
	Groups []Text `yaml:"groups,omitempty" json:"groups,omitempty" effect:"restart"`
	// The host name inside the container; it may hold dots. If absent, it is the name of the container. /etc/hostname, /etc/hosts and /etc/resolv.conf follow it and the network at each start; a root that has such a file of its own keeps it, and one without /etc gets none.
	Hostname string `yaml:"hostname,omitempty" json:"hostname,omitempty" effect:"restart" default:"${stead.name}"`
	// Run a small init process as the first process, and the command as its child. It reaps orphaned processes, forwards signals and exits with the exit code of the command.
	Init bool `yaml:"init,omitempty" json:"init,omitempty" effect:"restart"`
	// Resource limits of each process, by their setrlimit(2) name in lower case (nofile, nproc, memlock, …). A number or `unlimited` sets the soft and the hard limit; `{soft: 1024, hard: 65536}` sets each. An absent limit is the default of stead (`nofile` 1024 soft, 524288 hard), never the limit of the daemon.
	Ulimits map[string]Ulimit `yaml:"ulimits,omitempty" json:"ulimits,omitempty" effect:"restart"`
	// Limits of the whole container, enforced by its cgroup. An absent field means no limit.
	Resources Resources `yaml:"resources,omitempty" json:"resources,omitempty" effect:"live"`
	// Kernel settings of the namespaces of the container, by name: `net.*` (not with `network.mode: host`), `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`.
	Sysctls map[string]Text `yaml:"sysctls,omitempty" json:"sysctls,omitempty" effect:"restart"`
	// Mounts by their target inside the root. Each mount has exactly one of `source`, `tmpfs` and `volume`. A tmpfs at `/dev/shm` changes the size of shared memory, which is 64Mi by default.
	Mounts map[string]Mount `yaml:"mounts,omitempty" json:"mounts,omitempty" effect:"restart"`
	// Files that stead puts into the container, by their path inside: configuration and secrets. They lie in memory, are read-only inside, and follow their source. A file is a symbolic link inside, to a file below /run/stead/files.
	Files map[string]File `yaml:"files,omitempty" json:"files,omitempty" effect:"restart"`
	// How the command is told to read its configuration again, by `stead reload NAME` and when the content of a file with `onChange: reload` has changed: exactly one of `signal` and `exec`.
	Reload *Reload `yaml:"reload,omitempty" json:"reload,omitempty" effect:"live"`
	// The network of the container.
	Network Network `yaml:"network" json:"network" effect:"restart"`
	// What the processes of the container may do.
	Security Security `yaml:"security,omitempty" json:"security,omitempty" effect:"restart"`
	// Devices of the host that the container gets besides the usual ones, by their path inside the container, below /dev.
	Devices map[string]Device `yaml:"devices,omitempty" json:"devices,omitempty" effect:"restart"`
	// What stead does when the command exits.
	Restart Restart `yaml:"restart,omitempty" json:"restart,omitempty" effect:"live"`
	// How stead stops the command.
	Stop      Stop  `yaml:"stop,omitempty" json:"stop,omitempty" effect:"live"`
	Health    Later `yaml:"health,omitempty" json:"-"`
	DependsOn Later `yaml:"dependsOn,omitempty" json:"-"`
	Update    Later `yaml:"update,omitempty" json:"-"`
	Schedule  Later `yaml:"schedule,omitempty" json:"-"`
	// When a completed container with the restart policy `never` or `on-failure` runs again: with `on-change` after a change of its manifest that needs a restart, with `on-boot` after each boot of the host as well.
	Rerun string `yaml:"rerun,omitempty" json:"rerun,omitempty" enum:"on-change|on-boot" default:"on-change" effect:"live"`
	// What backups of the container hold, and how they are made.
	Backup *Backup `yaml:"backup,omitempty" json:"backup,omitempty" effect:"live"`
	// How much output of the container is kept.
	Logs Logs `yaml:"logs,omitempty" json:"logs,omitempty" effect:"live"`

	OldRunOnce string `yaml:"-" json:"runOnce,omitempty" jsonschema:"-"` // now Rerun; Default converts it
}

// Rootfs selects the root directory of the container.
type Rootfs struct {
	// Use the /usr of the host, read-only, in a private writable root that belongs to the container. Nothing needs to be downloaded. At each start its /etc takes over system users, resolv.conf, localtime and the like from the host, except for files that the container changed itself.
	Host *HostRoot `yaml:"host,omitempty" json:"host,omitempty" oneof:"root"`
	// The absolute path of a directory of the host, used in place. A symbolic link in the path is followed only if nobody but root of the host can have made it.
	Path string `yaml:"path,omitempty" json:"path,omitempty" oneof:"root"`
	// An image, read-only under a private directory of the container: the name of a local image (`debian-12`), or a complete reference to one in a registry (`docker.io/library/nginx:1.27`, with or instead of the tag `@sha256:…`), which is pulled when it is missing. A tag is resolved when this text changes; `stead image pull --use` resolves it again.
	Image string `yaml:"image,omitempty" json:"image,omitempty" oneof:"root"`
	// What happens to the private files when the image changes. `reset` moves them to the removed data and starts with a fresh root. `refuse` keeps the container as it is.
	OnImageChange string `yaml:"onImageChange,omitempty" json:"onImageChange,omitempty" enum:"reset|refuse" default:"reset" with:"image" effect:"live"`
	Size          Later  `yaml:"size,omitempty" json:"-"`
	// Make the root read-only. Mounts have a `readOnly` of their own.
	ReadOnly bool `yaml:"readOnly,omitempty" json:"readOnly,omitempty"`
}

// HostRoot selects the /usr of the host. It has no fields yet: `host: {}`.
type HostRoot struct{}

// Resources are the limits of the whole container. All of them change live.
type Resources struct {
	// Memory limit, in bytes or with `Ki`, `Mi`, `Gi`, `Ti`; at least `1Mi`.
	Memory *Bytes `yaml:"memory,omitempty" json:"memory,omitempty"`
	// Memory that the kernel reclaims from the container last when the host runs short of memory; at most `memory`.
	MemoryLow *Bytes `yaml:"memoryLow,omitempty" json:"memoryLow,omitempty"`
	// Swap limit in addition to `memory`, which must be set; `0` means no swap.
	Swap *Bytes `yaml:"swap,omitempty" json:"swap,omitempty"`
	// CPU limit in cores (`0.5`, `2`) or thousandths of a core (`500m`); at least `10m`.
	CPU *CPU `yaml:"cpu,omitempty" json:"cpu,omitempty"`
	// Share of CPU time when CPU time is scarce, 1 to 10000. If absent, it is 100.
	CPUWeight *int64 `yaml:"cpuWeight,omitempty" json:"cpuWeight,omitempty"`
	// Maximum number of processes and threads, 1 to 4194304.
	Pids *int64 `yaml:"pids,omitempty" json:"pids,omitempty"`
	// CPUs that the container may run on, such as `0-1,4`.
	Cpuset string `yaml:"cpuset,omitempty" json:"cpuset,omitempty"`
	// Limits of disk use.
	IO *IO `yaml:"io,omitempty" json:"io,omitempty"`
}

// IO limits the use of block devices.
type IO struct {
	// Share of disk time when disk time is scarce, 1 to 10000.
	Weight *int64 `yaml:"weight,omitempty" json:"weight,omitempty"`
}

// Ulimit is one resource limit, written as a number, `unlimited` or a map.
type Ulimit struct {
	// The limit in effect. A process may raise it up to the hard limit.
	Soft Limit `yaml:"soft" json:"soft"`
	// The highest value to which a process may raise the soft limit.
	Hard Limit `yaml:"hard" json:"hard"`
}

// Mount is one mount of a container. Mounts are nosuid and nodev.
type Mount struct {
	// The absolute path of the file or directory of the host to mount. It must exist. Symbolic links are followed as in `rootfs.path`.
	Source string `yaml:"source,omitempty" json:"source,omitempty" oneof:"mount"`
	// Mount an empty file system in memory.
	Tmpfs *Tmpfs `yaml:"tmpfs,omitempty" json:"tmpfs,omitempty" oneof:"mount"`
	// Mount a volume: a directory that stead keeps when its containers go. It is made when it is first mounted, with what the root has at the target. The name has letters, digits, `_`, `-` and dots.
	Volume string `yaml:"volume,omitempty" json:"volume,omitempty" oneof:"mount"`
	// Several containers write the volume. All that mount it for writing must say so; otherwise one writes it and others wait.
	Shared bool `yaml:"shared,omitempty" json:"shared,omitempty" with:"volume"`
	// Create the source as a directory if it does not exist. Its parent directory must exist.
	Create bool `yaml:"create,omitempty" json:"create,omitempty" with:"source"`
	// Require that the source is a mount point of the host. This is checked before each start.
	MountPoint bool `yaml:"mountPoint,omitempty" json:"mountPoint,omitempty" with:"source"`
	// Also mount the file systems that are mounted below the source. `readOnly` and `idmap` hold for them too.
	Recursive *bool `yaml:"recursive,omitempty" json:"recursive,omitempty" default:"true" with:"source"`
	// With `slave`, file systems that the host mounts below the source later appear inside as well. `slave` needs `security.userns: host`, since ids are not mapped in such mounts, and excludes `readOnly`.
	Propagation string `yaml:"propagation,omitempty" json:"propagation,omitempty" enum:"private|slave" default:"private" with:"source"`
	// Map ids, so that the owner of a file has the same number inside as on the host. `false` is for file systems that do not support it (NFS, CIFS). The container then has only the permissions of "others" there.
	IDMap *bool `yaml:"idmap,omitempty" json:"idmap,omitempty" default:"true" with:"source"`
	// The owner of the tmpfs (root if absent), of the directory that `create` makes (`user` if absent), or of a new volume (that of what it begins with, or `user`): a name or id, optionally with `:group`.
	Owner Text `yaml:"owner,omitempty" json:"owner,omitempty"`
	// The mode of the tmpfs (`"1777"` if absent), of the directory that `create` makes (`"0755"` if absent), or of a new volume (that of what it begins with, or `"0755"`), as text.
	Mode string `yaml:"mode,omitempty" json:"mode,omitempty"`
	// Make the mount read-only inside the container.
	ReadOnly bool `yaml:"readOnly,omitempty" json:"readOnly,omitempty"`
}

// EnvSource is a file of the host from which variables come. They are read at each start.
type EnvSource struct {
	// The file: an absolute path, or one that starts at the directory of the manifest.
	Source string `yaml:"source" json:"source" effect:"live"`
	// What happens when the file changes while the container runs: a `restart`, or nothing until the next start (`none`).
	OnChange string `yaml:"onChange,omitempty" json:"onChange,omitempty" enum:"restart|none" default:"restart" effect:"live"`
}

// File is a file or directory that a container gets. Exactly one of content and source
// says what is in it.
type File struct {
	// The text of the file. References (`${...}`) in it are left alone.
	Content *string `yaml:"content,omitempty" json:"content,omitempty" oneof:"file" effect:"live"`
	// The file or directory of the host that it is a copy of: an absolute path, or one that starts at the directory of the manifest. At most 16Mi, regular files and directories only. A change of it is noticed and followed.
	Source string `yaml:"source,omitempty" json:"source,omitempty" oneof:"file" effect:"live"`
	// The mode of the file, or of each file in the directory, as text. If absent, it is `"0444"` for content and the mode of the source without write permissions for a source.
	Mode string `yaml:"mode,omitempty" json:"mode,omitempty" effect:"live"`
	// The owner: a name or id, optionally with `:group`. If absent, it is `user`.
	Owner Text `yaml:"owner,omitempty" json:"owner,omitempty" effect:"live"`
	// What happens when the content changes while the container runs: with `restart` the container is restarted with the new content; with `reload` the content is put in place and then `reload` is done; with `none` it is only put in place. With the restart policies `never` and `on-failure` a `restart` waits for the next run.
	OnChange string `yaml:"onChange,omitempty" json:"onChange,omitempty" enum:"restart|reload|none" default:"restart" effect:"live"`
}

// Device is a device of the host that a container gets.
type Device struct {
	// The path of the device on the host; symbolic links are followed. If absent, it is the path inside. A directory stands for all devices in it.
	Source string `yaml:"source,omitempty" json:"source,omitempty"`
	CDI    Later  `yaml:"cdi,omitempty" json:"-"`
	// The owner of the device inside: a name or id, optionally with `:group`. If absent, it is root.
	Owner Text `yaml:"owner,omitempty" json:"owner,omitempty"`
	// The mode of the device inside, as text. If absent, every user inside may open the device.
	Mode string `yaml:"mode,omitempty" json:"mode,omitempty"`
	// The access that the container has to the device: read, write or both.
	Access string `yaml:"access,omitempty" json:"access,omitempty" enum:"r|w|rw" default:"rw"`
	// Start the container without the device if the host does not have it.
	Optional bool `yaml:"optional,omitempty" json:"optional,omitempty"`
}

// Tmpfs is a file system in memory. Its memory counts as memory of the container.
type Tmpfs struct {
	// The size of the file system, in bytes or with `Ki`, `Mi`, `Gi`, `Ti`.
	Size *Bytes `yaml:"size,omitempty" json:"size,omitempty" default:"64Mi"`
}

// Network selects the network of the container.
type Network struct {
	// `none` is a network of its own with only the loopback interface. `host` is the network of the host.
	Mode         string `yaml:"mode" json:"mode" enum:"none|host"`
	Of           Later  `yaml:"of,omitempty" json:"-"`
	Networks     Later  `yaml:"networks,omitempty" json:"-"`
	DefaultRoute Later  `yaml:"defaultRoute,omitempty" json:"-"`
	ExtraHosts   Later  `yaml:"extraHosts,omitempty" json:"-"`
	DNS          Later  `yaml:"dns,omitempty" json:"-"`
	Ports        Later  `yaml:"ports,omitempty" json:"-"`
	Bandwidth    Later  `yaml:"bandwidth,omitempty" json:"-"`
}

// Security restricts the processes of the container.
type Security struct {
	// Changes to the fourteen default capabilities.
	Capabilities Capabilities `yaml:"capabilities,omitempty" json:"capabilities,omitempty"`
	// The system call filter: `default` (the filter of Docker and Podman) or `unconfined`.
	Seccomp string `yaml:"seccomp,omitempty" json:"seccomp,omitempty" enum:"default|unconfined" default:"default"`
	// The user namespace. `auto` maps the ids inside to 65,536 host ids that belong to the container alone. `host` maps nothing: root inside is root on the host.
	Userns string `yaml:"userns,omitempty" json:"userns,omitempty" enum:"auto|host" default:"auto"`
	// Prevent programs from gaining privileges by execve (set-user-ID, file capabilities). `sudo`, `su`, Postfix and some builds of `ping` need `false`.
	NoNewPrivileges *bool `yaml:"noNewPrivileges,omitempty" json:"noNewPrivileges,omitempty" default:"true"`
	// The processes that the container sees: `private` shows only its own, `host` shows all processes of the host, for monitoring agents. `host` needs `userns: host`.
	Pid string `yaml:"pid,omitempty" json:"pid,omitempty" enum:"private|host" default:"private"`

	OldDevices []string `yaml:"-" json:"devices,omitempty" jsonschema:"-"` // now Spec.Devices; Default converts them
}

// Capabilities are changes to the default capabilities. The names are those of
// capabilities(7), with or without CAP_, or `ALL`.
type Capabilities struct {
	// Capabilities to keep in addition to the default ones, by name, with or without `CAP_`, or `ALL`. If `user` is not root, they are ambient, so that the command has them.
	Add []string `yaml:"add,omitempty" json:"add,omitempty"`
	// Capabilities to remove from the default ones. `ALL` removes all but those in `add`.
	Drop []string `yaml:"drop,omitempty" json:"drop,omitempty"`
}

// Restart says what stead does when the command exits by itself.
type Restart struct {
	// When the command is restarted: `always`, `on-failure` (when its exit code is not 0) or `never`.
	Policy string `yaml:"policy,omitempty" json:"policy,omitempty" enum:"always|on-failure|never" default:"always"`
	// The delay before the next start. It doubles with each failure. A run of at least `max` resets it.
	Backoff Backoff `yaml:"backoff,omitempty" json:"backoff,omitempty"`
	// The number of restarts in a row after which the container is failed and not restarted again, 1 or more. If absent, there is no limit.
	MaxRetries *int64 `yaml:"maxRetries,omitempty" json:"maxRetries,omitempty"`
}

// Backoff is a delay that grows.
type Backoff struct {
	// The first delay.
	Initial Duration `yaml:"initial,omitempty" json:"initial,omitempty" default:"1s"`
	// The longest delay.
	Max Duration `yaml:"max,omitempty" json:"max,omitempty" default:"5m"`
}

// Reload says how a container is told to read its configuration again.
type Reload struct {
	// The signal sent to the command, by its name without SIG: `HUP`.
	Signal string `yaml:"signal,omitempty" json:"signal,omitempty" oneof:"reload"`
	// A command that is run in the container, as its user and in its working directory: `[nginx, -s, reload]`.
	Exec []string `yaml:"exec,omitempty" json:"exec,omitempty" oneof:"reload"`
}

// Stop says how stead stops a container.
type Stop struct {
	// The signal sent to the command, by its name without SIG: `TERM`, `QUIT`, `RTMIN+3`. If absent, it is the one of the image.
	Signal string `yaml:"signal,omitempty" json:"signal,omitempty" default:"TERM"`
	// The time that the command has to exit before all processes of the container are killed; more than 0.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout,omitempty" default:"10s"`
	Before  Later    `yaml:"before,omitempty" json:"-"`
}

// Backup says how a container is backed up.
type Backup struct {
	Schedule Later `yaml:"schedule,omitempty" json:"-"`
	// The number of archives of the container that stay in `target`, 1 to 10000. Older ones are deleted when a newer one is complete and was read again. If absent, all stay.
	Keep *int64 `yaml:"keep,omitempty" json:"keep,omitempty"`
	// The absolute path of the directory for archives. It must exist. If absent, it is `backups` in the state directory of stead.
	Target string `yaml:"target,omitempty" json:"target,omitempty"`
	// What is in a backup: `root` (the private files), `volumes` (all volumes that the container mounts), and directories of the host by the path inside where they are mounted (`/data`). If absent, it is `[root, volumes]`.
	Include []string `yaml:"include,omitempty" json:"include,omitempty"`
	// Let the container stand still while what has changed is copied. `false` is for applications whose hooks make what they write consistent.
	Freeze *bool `yaml:"freeze,omitempty" json:"freeze,omitempty" default:"true"`
	// Runs in the container before anything is copied, if it runs. If it fails, there is no backup.
	Before *Hook `yaml:"before,omitempty" json:"before,omitempty"`
	// Runs in the container after `before` has run and all is copied, also if one of both failed.
	After *Hook `yaml:"after,omitempty" json:"after,omitempty"`
}

// Hook is a command that stead runs in a container at a certain time.
type Hook struct {
	// The command, as the user of the container and in its working directory: `[psql, -c, CHECKPOINT]`. Its output goes to the logs of the container.
	Exec []string `yaml:"exec" json:"exec"`
	// The time that the command has before it is killed and counts as failed; more than 0.
	Timeout Duration `yaml:"timeout,omitempty" json:"timeout,omitempty" default:"1m"`
}

// Logs limits the output that is kept on disk.
type Logs struct {
	// The size at which a log file is rotated, in bytes or with `Ki`, `Mi`, `Gi`; at least `64Ki`.
	MaxSize Bytes `yaml:"maxSize,omitempty" json:"maxSize,omitempty" default:"10Mi"`
	// The number of rotated files that are kept besides the current one, 0 to 100.
	Keep *int64 `yaml:"keep,omitempty" json:"keep,omitempty" default:"5"`
}
