// Package specconv translates a manifest, for this host, into a launch configuration: root,
// mounts, devices, process and limits. Start, exec, preflight and the repair of drift share
// it. It reads the host's files, and only makes a missing host root or a missing mount source
// with create. It knows no running container and no facts on disk.
package specconv
