#!/usr/bin/env bash
# The main job, end to end, on private directories: manifests become containers,
# edits change them, bad input harms nothing, the daemon may die, and in the end
# nothing is left. Exits 0 only if all of that held. Run it by `make demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || exec sudo "$0" "$@"

work=$(mktemp -d /var/tmp/stead-demo.XXXXXX)
run=$(mktemp -d /run/stead-demo.XXXXXX)
id=$(basename "$work")
manifests=$work/manifests
export STEAD_STATE_DIR=$work/state STEAD_RUN_DIR=$run STEAD_MANIFESTS=$manifests STEAD_CGROUP_PARENT=$id
stead=$PWD/bin/stead
daemon=""

say() { printf '\n== %s\n' "$*"; }
show() { printf '$ stead %s\n' "$*"; "$stead" "$@"; }
fail() {
	printf '\nFAILED: %s\n' "$*" >&2
	exit 1
}

# until_true SECONDS WHAT COMMAND… waits until a command succeeds.
until_true() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "$what"
		sleep 0.1
	done
}

start_daemon() {
	"$stead" daemon "$@" 2>>"$work/daemon.log" &
	daemon=$!
	until_true 10 "the daemon does not answer" "$stead" reload
}

# pids prints NAME PID for all but the one that crashes by design.
pids() { "$stead" ps -o wide | awk 'NR > 1 && $1 != "crashloop" { print $1, $7 }'; }
pid_of() { pids | awk -v name="$1" '$1 == name { print $2 }'; }

# group_of NAME prints the directory that holds the container's memory limit.
group_of() { "$stead" inspect "$1" | grep -o '"/sys/fs/cgroup/[^"]*"' | tr -d '"' | while read -r d; do
	if [ -e "$d/memory.max" ] || [ -e "$d/memory.limit_in_bytes" ]; then echo "$d"; fi; done; }
limit_of() { cat "$(group_of "$1")"/memory.max 2>/dev/null || cat "$(group_of "$1")"/memory.limit_in_bytes; }
limit_is() { [ "$(limit_of "$1")" = "$2" ]; }
state_is() { "$stead" ps "$1" | awk -v want="$2" 'NR == 2 && $2 == want { found = 1 } END { exit !found }'; }
sync_is() { "$stead" ps "$1" | awk -v want="$2" 'NR == 2 && $4 == want { found = 1 } END { exit !found }'; }
answer() { exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && tail -n 1 <&3; }

# leftovers prints whatever of this demo is still there.
leftovers() {
	local p
	for p in /proc/[0-9]*; do
		if grep -qs "/$id" "$p/cgroup" || tr '\0' ' ' 2>/dev/null <"$p/cmdline" | grep -qE "(^| )stead-keeper $run( |$)"; then
			echo "process ${p#/proc/}: $(tr '\0' ' ' 2>/dev/null <"$p/cmdline")"
		fi
	done
	grep -E " ($work|$run)" /proc/self/mountinfo | sed 's/^/mount: /' || true
	find /sys/fs/cgroup -maxdepth 2 -name "$id" -printf 'cgroup: %p\n' 2>/dev/null || true
	if [ -d "$run" ]; then find "$run" -type p -printf 'FIFO: %p\n' -o -type s -printf 'socket: %p\n'; fi
	if [ -d "$run/containers" ]; then find "$run/containers" -mindepth 1 -printf 'of this boot: %p\n'; fi
	if [ -d "$work/state/containers" ]; then find "$work/state/containers" -mindepth 1 -maxdepth 1 -printf 'directory: %p\n'; fi
}

# clean_up takes everything down whatever state it is in.
clean_up() {
	local status=$? d p
	trap - EXIT INT TERM
	set +e
	if [ $status != 0 ] && [ -s "$work/daemon.log" ]; then
		echo "-- the daemon's last lines:" >&2
		tail -n 20 "$work/daemon.log" >&2
	fi
	[ -n "$daemon" ] && kill -9 "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null
	for p in /proc/[0-9]*; do
		if grep -qs "/$id" "$p/cgroup" || tr '\0' ' ' 2>/dev/null <"$p/cmdline" | grep -qE "(^| )stead-keeper $run( |$)"; then
			kill -9 "${p#/proc/}" 2>/dev/null
		fi
	done
	for d in /sys/fs/cgroup/"$id" /sys/fs/cgroup/*/"$id"; do
		for _ in 1 2 3 4 5 6 7 8 9 10; do
			[ -d "$d" ] || break
			find "$d" -depth -type d -exec rmdir {} \; 2>/dev/null
			[ -d "$d" ] && sleep 0.1
		done
	done
	rm -rf "$work" "$run"
	exit $status
}
trap clean_up EXIT
trap 'exit 130' INT TERM

say "A private copy of the examples"
mkdir -p "$manifests"
cp -r examples/*.yaml examples/*.files "$manifests"
port=18080
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
sed -i "s/18080/$port/" "$manifests/web.yaml"
# path-root.yaml shows a directory of ours: a shell and what it needs.
mkdir -p -m 700 "$work/own" && mkdir -p "$work"/own/root/{dev,proc,sys}
cp -L --parents /bin/sh /bin/sleep $(ldd /bin/sh /bin/sleep | grep -o '/lib[^ ]*' | sort -u) "$work/own/root"
sed -i "s|path: .*|path: $work/own/root|" "$manifests/path-root.yaml"
show validate

say "The daemon makes it so"
start_daemon
show wait --timeout=30s hello limits mounts path-root read-only unprivileged web
until_true 20 "crashloop does not come into BackOff" state_is crashloop BackOff
show ps

say "The web server answers, and programs run inside"
until_true 10 "the web server does not answer" answer
[ "$(answer)" = "hello from stead" ] || fail "the web server answers: $(answer)"
answer
show logs read-only
show exec hello -- sh -c 'echo "I am process $$ of $(hostname)"'

say "An edited limit is applied live"
before=$(pid_of limits)
sed -i 's/memory: 64Mi/memory: 96Mi/' "$manifests/limits.yaml"
until_true 10 "the new limit is not applied" limit_is limits $((96 << 20))
[ "$(pid_of limits)" = "$before" ] || fail "limits was restarted for a live change"
echo "process $before goes on; its cgroup says $(limit_of limits) bytes"

say "A manifest that is dropped in comes up"
sed 's/name: hello/name: dropped/' examples/hello.yaml >"$manifests/dropped.yaml"
show wait --timeout=10s dropped
show ps dropped

say "A broken manifest harms nothing"
sed -i 's/memory: 96Mi/memory: 96M/' "$manifests/limits.yaml"
until_true 10 "the error is not shown" sync_is limits error
show ps limits
[ "$(pid_of limits)" = "$before" ] || fail "limits was touched because of a broken manifest"
sed -i 's/memory: 96M$/memory: 96Mi/' "$manifests/limits.yaml"
until_true 10 "the mended manifest is not read" sync_is limits synced

say "A deleted manifest takes its container away"
rm "$manifests/dropped.yaml"
show wait --for=removed --timeout=20s dropped
if "$stead" ps dropped 2>/dev/null; then fail "dropped is still there"; fi
ls "$work/state/removed"

say "The daemon is killed and started again"
before=$(pids)
kill -9 "$daemon" && wait "$daemon" 2>/dev/null || true
[ "$(pids)" = "$before" ] || fail "containers changed when the daemon died"
start_daemon --stop-containers
until_true 10 "the new daemon has not looked at everything" sync_is limits synced
[ "$(pids)" = "$before" ] || fail "containers changed: before $before, now $(pids)"
echo "all processes are the same:" $before

say "Everything is taken down"
rm "$manifests"/*.yaml
until_true 10 "the removal of everything is not held" sync_is hello held
show status || [ $? = 3 ] || fail "status does not say that something differs"
show apply --confirm-removal=all
kill "$daemon" && wait "$daemon"
daemon=""
for _ in {1..50}; do # init may take a moment to collect the keeper, whose own parent was killed
	left=$(leftovers)
	[ -n "$left" ] || break
	sleep 0.1
done
[ -z "$left" ] || fail "left behind:
$left"
echo "no process, mount, cgroup, FIFO or directory is left but the removed roots, which are kept:"
ls "$work/state/removed"

say "All of that held"
