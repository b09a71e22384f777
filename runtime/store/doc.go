// Package store keeps the durable state of a state directory: the facts of each container,
// removed containers, holds, host ids, and the lock of the process that manages it. Each type has files and a lock of its own. It knows no process, no cgroup and no
// keeper.
package store
