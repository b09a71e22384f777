// Package runtime is the containers of this host: their directories and facts
// on disk, their starts and stops, and what is known about each.
//
//	STATE/containers/web/  container.json  upper/  root →  log/   durable facts
//	STATE/removed/web@20261123T041500Z/                           what was removed
//	RUN/containers/web.4f1c22a0.json …                            facts of this boot
//
// It keeps manifests as they were applied, but decides nothing: reconcile does.
// What it shares with others is data: status (what is known of a container) and record (boot
// records). Its packages each have one concern: store (facts on disk), specconv (manifest to
// launch), drift (what was changed by hand), launch (clone to execve), keeper (the process that
// holds containers), cgroup, logs, rootfs, seccomp. What is left here is the order of steps in
// a container's life, the registry of containers, and the supervisor of the keeper.
package runtime
