// Package runtime is the containers of this host: their directories and facts
// on disk, their starts and stops, and what is known about each.
//
//	STATE/containers/web/  container.json  upper/  root →  log/   durable facts
//	STATE/removed/web@20261123T041500Z/                           what was removed
//	RUN/containers/web.4f1c22a0.json …                            facts of this boot
//
// It keeps manifests as they were applied, but decides nothing: reconcile does.
// The kernel work is in its rooms: launch (clone to execve), keeper (the process
// that holds containers), cgroup, logs, rootfs, seccomp.
package runtime
