#!/usr/bin/env bash
# run.sh - what `make bench` does: stead and its peers, all in one run, one table.
# As root, on a quiet machine; needs gcc and busybox-static, and compares with
# crun, runc, systemd-nspawn, umoci and podman where they are installed.
#   BENCH_N      containers for a time from create to removed (200)
#   BENCH_IMPORTS, BENCH_REPLICAS  rounds of imports (3), containers of one image (1000)
#   BENCH_SCALE  numbers of running containers, rising ("0 100 1000 5000")
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "make bench needs root: it starts containers" >&2; exit 1; }
for need in gcc /bin/busybox; do
	command -v "$need" >/dev/null || { echo "make bench needs $need (apt-get install gcc busybox-static)" >&2; exit 1; }
done
n="${BENCH_N:-200}"
dir="$(mktemp -d /var/tmp/stead-bench-XXXXXX)"
chmod 755 "$dir" # a user namespace's root gets there as anybody
trap 'rm -rf "$dir"' EXIT
root="$dir/root"
mkdir -p "$root"/{bin,proc,sys,dev,tmp,etc,usr,var,run}
cp /bin/busybox "$root/bin/busybox"
printf '#include <unistd.h>\nint main(void) { _exit(0); }\n' >"$dir/true.c"
gcc -O2 -static -o "$root/bin/true" "$dir/true.c"
gcc -O2 -o "$dir/floor" runtime/bench/floor.c
CGO_ENABLED=0 go test -c -o "$dir/runtime.test" ./runtime
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$dir/built" ./cmd/stead
cp "$dir/built" "$dir/stead" # as it is installed: of what the linker wrote the page cache has small pieces, which cost 0.3 ms a call
CGO_ENABLED=0 go test -tags bench -c -o "$dir/stead.test" ./cmd/stead

row() { printf '%-66s %-44s %s\n' "$1" "$2" "$3"; }

# OCI runtimes: the same true, fully isolated, with limits. crun refuses a hybrid
# host, so it does not get to see the cgroup2 mount.
oci() {
	local bundle="$dir/bundle-$1"
	mkdir -p "$bundle"
	(cd "$bundle" && "$1" spec)
	sed -i -e 's|"terminal": true|"terminal": false|' -e 's|"sh"|"/bin/true"|' -e "s|\"path\": \"rootfs\"|\"path\": \"$root\"|" \
		-e 's|"resources": {|"resources": {"memory": {"limit": 67108864}, "cpu": {"quota": 50000, "period": 100000}, "pids": {"limit": 64},|' "$bundle/config.json"
	unshare --mount bash -c '
		umount /sys/fs/cgroup/unified 2>/dev/null || true
		from=$(date +%s%N)
		seq "$3" | xargs -P 2 -I{} "$1" run -b "$2" "stead-bench-{}" >/dev/null
		echo "scale=2; ($(date +%s%N) - $from) / 1000000 / $3" | bc' _ "$1" "$bundle" "$n"
}

# The whole command `crun exec`, as often as the one of stead below.
crun_exec() {
	local bundle="$dir/bundle-crun"
	sed -i "s|\"/bin/true\"|\"/bin/busybox\", \"sleep\", \"1000\"|" "$bundle/config.json"
	unshare --mount bash -c '
		umount /sys/fs/cgroup/unified 2>/dev/null || true
		crun run -d -b "$1" stead-bench-exec >/dev/null </dev/null
		from=$(date +%s%N)
		for _ in $(seq 50); do crun exec stead-bench-exec /bin/true; done
		echo "scale=1; ($(date +%s%N) - $from) / 50000000" | bc
		crun delete -f stead-bench-exec' _ "$bundle"
}

row "what" "figure" "against"
if [ -d /sys/fs/cgroup/memory ]; then
	mkdir "$dir/overlay"
	limit="$("$dir/floor" "$root" "$dir/overlay" "$n" 2)"
	launch="$("$dir/floor" "$root" "$dir/overlay" "$n" 2 userns)"
	row "floor.c, no user namespace: ms per container" "$limit" "the kernel's own limit"
	row "floor.c, user namespace" "$launch" ""
fi
(cd runtime && "$dir/runtime.test" -test.run xxx -test.bench CreateToRemoved -test.benchtime "${n}x" 2>/dev/null) |
	awk '/ms\/container/ { sub(/.*userns=/, "", $1); sub(/-[0-9]+$/, "", $1); for (i = 2; i < NF; i++) if ($(i+1) == "ms/container") print $1, $i }' |
	while read -r userns figure; do
		against=""
		[ -n "${limit:-}" ] && case "$userns" in host) against="$limit (want ≤ 1.5 ×)" ;; *) against="$launch (want ≤ 1.5 ×)" ;; esac
		row "stead, security.userns: $userns: ms, create to removed" "$figure" "$against"
	done
(cd runtime && "$dir/runtime.test" -test.run xxx -test.bench '^BenchmarkRoots$' -test.benchtime "${n}x" 2>/dev/null) |
	awk '/image\/path/ { sub(/.*Roots\//, "", $1); sub(/-[0-9]+$/, "", $1); for (i = 2; i < NF; i++) v[$(i+1)] = $i; print $1, v["image-ms"], v["path-ms"], v["image/path"] }' |
	while read -r what image path ratio; do
		want=1.3
		[ "$what" = restart ] && want=1.1
		row "stead, image root: ms, ${what//-/ }" "$image" "$path of a path root: $ratio × (want ≤ $want ×)"
	done
runtime/bench/images.sh "$dir/stead" | while IFS='|' read -r name figure against; do row "$name" "$figure" "$against"; done
for peer in crun runc; do
	if command -v "$peer" >/dev/null; then
		row "$peer run: ms" "$(oci "$peer" 2>&1 | tail -1)" ""
	fi
done
if command -v systemd-nspawn >/dev/null; then
	from=$(date +%s%N)
	for _ in 1 2 3 4 5; do systemd-nspawn -q --register=no --keep-unit -D "$root" /bin/true >/dev/null 2>&1 || true; done
	row "systemd-nspawn: ms, one after the other" "$((($(date +%s%N) - from) / 5000000))" ""
fi
(cd cmd/stead && BENCH_STEAD="$dir/stead" BENCH_SCALE="${BENCH_SCALE:-0 100 1000 5000}" STEAD_TEST_ROOT=1 "$dir/stead.test" -test.run 'TestBench$|TestBenchReplicas' -test.parallel 1 -test.timeout 60m 2>&1) |
	while IFS='|' read -r mark name figure against; do
		if [ "$mark" = FIGURE ]; then row "$name" "$figure" "$against"; fi
	done
command -v crun >/dev/null && row "crun exec: ms" "$(crun_exec 2>&1 | tail -1)" ""
(cd runtime && "$dir/runtime.test" -test.run xxx -test.bench 'Log|Output|Exec' -test.benchtime 20x 2>/dev/null) | awk '/^Benchmark/ { print }' |
	while read -r name _ rest; do row "runtime: $name" "$rest" ""; done
(cd reconcile && go test -run xxx -bench . -benchtime 20x . 2>/dev/null) | awk '/Benchmark/ { print }' |
	while read -r name _ ns _; do row "reconcile: $name" "$(echo "scale=2; $ns / 1000000" | bc) ms" ""; done
