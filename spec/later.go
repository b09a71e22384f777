package spec

// laterHint says what to do until a field is supported.
func laterHint(path string) string {
	switch {
	case under(path, "spec.mounts"):
		return "source: /srv/DIRECTORY, which create: true makes"
	case under(path, "spec.devices"):
		return "name the devices: devices: {/dev/nvidia0: {}}"
	}
	switch path {
	case "spec.replicas":
		return "a manifest for each, under a name of its own; for none write suspend: true"
	case "spec.rootfs.image":
		return "host: {}, or an unpacked image with path: /DIRECTORY"
	case "spec.rootfs.onImageChange":
		return "remove the line, since there are no images"
	case "spec.rootfs.size":
		return "path: /DIRECTORY on a file system of that size"
	case "spec.boot":
		return "the service alone as the command, with init: true where it needs a first process"
	case "spec.envFiles":
		return "write the variables under env, in the manifest or in a drop-in NAME.container.d/env.yaml"
	case "spec.envSecrets", "spec.files":
		return "mount the directory that they lie in: mounts: {/run/secrets: {source: /etc/stead/secrets/NAME, readOnly: true}}"
	case "spec.reload":
		return "stead exec NAME -- kill -HUP 1"
	case "spec.network.of":
		return "network: {mode: host} for both of them"
	case "spec.network.dns", "spec.network.extraHosts":
		return "a file of its own in the root: /etc/resolv.conf, /etc/hosts"
	case "spec.network.bandwidth":
		return "limit the program by itself"
	case "spec.network.ports", "spec.network.networks", "spec.network.defaultRoute":
		return "network: {mode: host}, where the program's ports are the host's"
	case "spec.stop.before":
		return "have the command act upon stop.signal"
	case "spec.health":
		return "a timer that runs stead exec NAME -- CHECK, and stead restart NAME when that fails"
	case "spec.dependsOn":
		return "have the command fail without what it needs: it is started again, after 1s at first"
	case "spec.update":
		return "change one manifest after the other"
	case "spec.schedule":
		return "restart: {policy: never}, and a timer that runs stead start NAME"
	case "spec.backup":
		return "a timer that backs up the directories of mounts and rootfs"
	case "logs": // of the configuration
		return "logs in a drop-in for all: container.d/logs.yaml"
	}
	return ""
}
