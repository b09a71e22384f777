// Package runtime manages the containers of this host: their directories and facts on
// disk, their starts and stops, and the status of each.
//
//	STATE/containers/web/  container.json  upper/  root →  log/   durable facts
//	STATE/removed/web@20261123T041500Z/                           what was removed
//	RUN/containers/web.4f1c22a0.json …                            facts of this boot
//
// It keeps manifests as they were applied, but decides nothing: reconcile does.
// It shares data with others: status (of a container) and record (boot records). Its packages each have one concern: store (facts on disk), specconv (manifest to
// launch), drift (changes made by hand), launch (clone to execve), keeper (the process that
// holds containers), cgroup, logs, rootfs, seccomp. This package has the order of steps in
// a container's life, the registry of containers, and the supervisor of the keeper.
package runtime
