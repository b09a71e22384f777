package spec

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Limits that the checks enforce and the reference names.
const (
	minMemory  = 1 << 20  // with less not even a shell starts
	minCPU     = 10       // the smallest quota of the kernel: 1 ms in each 100 ms
	maxCPUTime = 8192_000 // the largest number of cores that any kernel is built for
	maxWeight  = 10_000
	maxPids    = 4_194_304 // PID_MAX_LIMIT of the kernel
	maxID      = 65_535
	minLogSize = 64 << 10
	maxLogKeep = 100
	maxWord    = 128<<10 - 1 // MAX_ARG_STRLEN of execve(2), without its NUL
)

// check reports all errors in the values of a container whose shape is right.
func (d *decoder) check(c *Container) {
	s := &c.Spec
	d.checkMetadata(c)
	d.checkHosts(s.Hosts)
	d.checkRootfs(s.Rootfs)
	d.checkProcess(s)
	d.checkUlimits(s.Ulimits)
	d.checkResources(s.Resources)
	d.checkSysctls(s)
	d.checkMounts(s)
	d.checkFiles(s)
	d.checkEnvSources(c)
	d.checkReload(s.Reload)
	d.checkSecurity(s)
	d.checkDevices(s.Devices)
	d.checkRestart(s)
	d.checkBackup(s)
}

func (d *decoder) checkMetadata(c *Container) {
	if err := CheckName(c.Metadata.Name); err != nil {
		d.errorFor("metadata.name", "found %s: %s", quote(c.Metadata.Name), err)
	}
	for _, key := range slices.Sorted(maps.Keys(c.Metadata.Labels)) {
		at := joinPath("metadata.labels", key)
		if err := checkLabelKey(key); err != nil {
			d.errorFor(at, "%s", err)
		} else if value := c.Metadata.Labels[key]; value != "" && !isLabelWord(value) {
			d.errorFor(at, "found %s: want at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends", quote(value))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Metadata.Annotations)) {
		if err := checkLabelKey(key); err != nil {
			d.errorFor(joinPath("metadata.annotations", key), "%s", err)
		}
	}
}

func (d *decoder) checkRootfs(r Rootfs) {
	const at = "spec.rootfs"
	var given []string
	for _, root := range []struct {
		name  string
		given bool
	}{{"host", r.Host != nil}, {"path", r.Path != ""}, {"image", r.Image != ""}} {
		if root.given {
			given = append(given, root.name)
		}
	}
	switch {
	case len(given) > 1:
		d.errorFor(at, "found %s, want exactly one of them", strings.Join(given, " and "))
	case len(given) == 0:
		d.errorFor(at, "found neither host, path nor image, want exactly one of them: rootfs: {host: {}}")
	case r.Image != "":
		if err := CheckImage(r.Image); err != nil {
			d.errorFor(at+".image", "found %s: %s", quote(r.Image), err)
		}
	case r.Path == "/":
		d.errorFor(at+".path", "found \"/\": the root of the host can't be the root of a container; use host: {}")
	case r.Path != "":
		d.checkPath(at+".path", r.Path)
	}
}

func (d *decoder) checkProcess(s *Spec) {
	fromImage := s.Rootfs.Image != ""
	if len(s.Command) == 0 {
		switch {
		case s.Command != nil:
			d.errorFor("spec.command", "found an empty list, want at least the program to run")
		case !fromImage:
			d.errorFor("spec.command", "missing; want a list such as [sh, -c, \"echo hello\"]")
		}
	} else if s.Command[0] == "" {
		d.errorFor("spec.command[0]", "found an empty text, want the program to run")
	} else if s.Command[0][0] == '-' {
		d.errorFor("spec.command[0]", "found %s, want the program to run; options go into args", quote(s.Command[0]))
	}
	d.checkWords("spec.command", s.Command)
	d.checkWords("spec.args", s.Args)
	for _, key := range slices.Sorted(maps.Keys(s.Env)) {
		at := joinPath("spec.env", key)
		if err := checkEnvKey(key); err != nil {
			d.errorFor(at, "%s", err)
		}
		if len(key)+1+len(s.Env[key]) > maxWord {
			d.errorFor(at, "is %d bytes; the kernel takes at most %d for one variable", len(s.Env[key]), maxWord-len(key)-1)
		}
	}
	if s.WorkingDir != "" || !fromImage {
		d.checkPath("spec.workingDir", s.WorkingDir)
	}
	if err := checkUser(string(s.User)); err != nil && !(s.User == "" && fromImage) {
		d.errorFor("spec.user", "found %s: %s", quote(string(s.User)), err)
	}
	for i, group := range s.Groups {
		if err := checkID(string(group)); err != nil {
			d.errorFor("spec.groups["+strconv.Itoa(i)+"]", "found %s: %s", quote(string(group)), err)
		}
	}
	if !isHostname(s.Hostname) {
		d.errorFor("spec.hostname", "found %s: want at most 64 letters, digits and '-', in parts separated by '.'", quote(s.Hostname))
	}
}

func (d *decoder) checkUlimits(limits map[string]Ulimit) {
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		at, u := joinPath("spec.ulimits", name), limits[name]
		if !slices.Contains(ulimitNames(), name) {
			d.errorFor(at, "unknown limit%s; want one of %s", didYouMean(name, ulimitNames()), strings.Join(ulimitNames(), ", "))
		} else if u.Hard != Unlimited && (u.Soft == Unlimited || u.Soft > u.Hard) {
			d.errorFor(at, "found %s, want a soft limit that is not above the hard one", u)
		}
	}
}

// checkWords reports arguments that execve(2) would refuse.
func (d *decoder) checkWords(at string, words []string) {
	for i, word := range words {
		if len(word) > maxWord {
			d.errorFor(at+"["+strconv.Itoa(i)+"]", "is %d bytes; the kernel takes at most %d for one argument", len(word), maxWord)
		}
	}
}

func (d *decoder) checkResources(r Resources) {
	const at = "spec.resources"
	if r.Memory != nil && *r.Memory < minMemory {
		d.errorFor(at+".memory", "found %s, want at least %s", *r.Memory, Bytes(minMemory))
	}
	if r.MemoryLow != nil && r.Memory != nil && *r.MemoryLow > *r.Memory {
		d.errorFor(at+".memoryLow", "found %s, want at most memory, %s", *r.MemoryLow, *r.Memory)
	}
	if r.Swap != nil && r.Memory == nil && !d.hasError(at+".memory") {
		d.errorFor(at+".swap", "needs memory: swap is counted in addition to memory")
	}
	if r.Swap != nil && r.Memory != nil && *r.Memory+*r.Swap < 0 {
		d.errorFor(at+".swap", "memory and swap together are too large")
	}
	if r.CPU != nil && (*r.CPU < minCPU || *r.CPU > maxCPUTime) {
		d.errorFor(at+".cpu", "found %s, want %s to %s: the smallest quota of the kernel is 1 ms in each 100 ms", *r.CPU, CPU(minCPU), CPU(maxCPUTime))
	}
	d.checkRange(at+".cpuWeight", r.CPUWeight, 1, maxWeight)
	d.checkRange(at+".pids", r.Pids, 1, maxPids)
	if r.IO != nil {
		d.checkRange(at+".io.weight", r.IO.Weight, 1, maxWeight)
	}
	if _, err := parseCpuset(r.Cpuset); err != nil {
		d.errorFor(at+".cpuset", "found %s: %s", quote(r.Cpuset), err)
	}
}

// checkSysctls accepts only settings of which the kernel keeps one value for each
// network or IPC namespace.
func (d *decoder) checkSysctls(s *Spec) {
	for _, name := range slices.Sorted(maps.Keys(s.Sysctls)) {
		at := joinPath("spec.sysctls", name)
		plain := !strings.Contains(name, "..") && strings.Trim(name, ".") == name && hasOnly(name, "._-")
		value := string(s.Sysctls[name])
		switch {
		case strings.Contains(name, "/"):
			d.errorFor(at, "found %s, want dots: %s", quote(name), escape(strings.ReplaceAll(name, "/", "."), 60))
		case !plain || !isNamespacedSysctl(name):
			d.errorFor(at, "found %s, want a setting of the container's own namespaces: net.*, kernel.shm*, kernel.msg*, kernel.sem or fs.mqueue.*; others are the host's (sysctl.d(5))", quote(name))
		case strings.HasPrefix(name, "net.") && s.Network.Mode == "host":
			d.errorFor(at, "needs a network of its own: with network.mode host it is the host's (sysctl.d(5))")
		case value == "" || strings.ContainsAny(value, "\n\x00") || len(value) > 4000:
			d.errorFor(at, "found %s, want a value on one line", quote(value))
		}
	}
}

// isNamespacedSysctl reports whether a setting belongs to a network or IPC namespace.
func isNamespacedSysctl(name string) bool {
	return name == "kernel.sem" || slices.ContainsFunc([]string{"net.", "kernel.shm", "kernel.msg", "fs.mqueue."},
		func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

func (d *decoder) checkSecurity(s *Spec) {
	const at = "spec.security"
	add, drop := s.Security.Capabilities.Add, s.Security.Capabilities.Drop
	d.checkCapabilities(at+".capabilities.add", add)
	d.checkCapabilities(at+".capabilities.drop", drop)
	for i, name := range drop {
		name = strings.TrimPrefix(name, "CAP_")
		if slices.Contains(add, name) || slices.Contains(add, "CAP_"+name) {
			d.errorFor(at+".capabilities.drop["+strconv.Itoa(i)+"]", "%s is in add too; want it in one of them", name)
		}
	}
	for i, name := range add {
		if name = strings.TrimPrefix(name, "CAP_"); s.Network.Mode == "host" && s.Security.Userns != "host" && (name == "NET_ADMIN" || name == "NET_BIND_SERVICE") {
			d.warnFor(at+".capabilities.add["+strconv.Itoa(i)+"]", "%s has no effect on the host's network from a user namespace of its own; write security.userns: host, or network.mode: none", name)
		}
	}
	if s.Security.Pid == "host" && s.Security.Userns != "host" {
		d.errorFor(at+".pid", "host needs userns: host: from a user namespace of its own a container can't inspect the processes of the host")
	}
	if s.Security.Pid == "host" && s.Init {
		d.errorFor("spec.init", "has no meaning with security.pid: host: orphans go to the host's first process")
	}
}

func (d *decoder) checkCapabilities(at string, names []string) {
	known := capabilityNames()
	for i, name := range names {
		if bare := strings.TrimPrefix(name, "CAP_"); d.tooManyErrors || slices.Contains(known, bare) && name != "CAP_ALL" {
			continue
		}
		upper := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		hint := didYouMean(upper, known)
		if slices.Contains(known, upper) {
			hint = "; write " + upper
		}
		d.errorFor(at+"["+strconv.Itoa(i)+"]", "found %s, want a capability as in capabilities(7), or ALL%s", quote(name), hint)
	}
}

func (d *decoder) checkRestart(s *Spec) {
	const at = "spec.restart"
	if b := s.Restart.Backoff; b.Initial <= 0 {
		d.errorFor(at+".backoff.initial", "found %s, want more than 0", b.Initial)
	} else if b.Max < b.Initial && !d.hasError(at+".backoff.initial") {
		d.errorFor(at+".backoff.max", "found %s, want at least the initial delay, %s", b.Max, b.Initial)
	}
	if s.Rerun == "on-boot" && s.Restart.Policy == "always" {
		d.errorFor("spec.rerun", "found %q, which needs restart.policy never or on-failure: always runs at every boot", s.Rerun)
	}
	if n := s.Restart.MaxRetries; n != nil && *n < 1 {
		d.errorFor(at+".maxRetries", "found %d, want 1 or more; for no limit remove the line; for no restarts write policy: never", *n)
	}
	if err := checkSignal(s.Stop.Signal); err != nil && !(s.Stop.Signal == "" && s.Rootfs.Image != "") {
		d.errorFor("spec.stop.signal", "found %s: %s", quote(s.Stop.Signal), err)
	}
	if s.Stop.Timeout <= 0 {
		d.errorFor("spec.stop.timeout", "found 0, want more than 0; to kill the command at once write signal: KILL")
	}
	if s.Logs.MaxSize < minLogSize {
		d.errorFor("spec.logs.maxSize", "found %s, want at least %s", s.Logs.MaxSize, Bytes(minLogSize))
	}
	d.checkRange("spec.logs.keep", s.Logs.Keep, 0, maxLogKeep)
}

func (d *decoder) checkRange(at string, n *int64, low, high int64) {
	if n != nil && (*n < low || *n > high) {
		d.errorFor(at, "found %d, want %d to %d", *n, low, high)
	}
}

// didYouMean returns a hint that names the most similar of names, "" if none is similar.
func didYouMean(word string, names []string) string {
	if near := Nearest(word, names); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
