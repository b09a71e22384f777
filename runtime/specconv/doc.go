// Package specconv translates a manifest, for this host, into what a launch is made of: root,
// mounts, devices, process and limits. Start, exec, preflight and the repair of drift share it.
// It looks at the host's files and changes none but for a host root, or a source of a mount that is to be made, that is not there yet. It
// knows no container that runs and no facts on disk.
package specconv
