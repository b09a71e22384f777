// Package store keeps what is durable about the containers of a state directory: the facts
// of each, what was removed, what is on hold, which host ids are whose, and which process
// decides. Each type has files and a lock of its own. It knows no process, no cgroup and no
// keeper.
package store
