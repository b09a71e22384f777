#!/usr/bin/env bash
# images.sh STEAD - times of an import of some 300 MB beside tar, and beside umoci and podman where
# they are installed, in turns; the best of BENCH_IMPORTS (3) counts. Prints lines that run.sh
# puts into its table.
set -euo pipefail
stead="$1"
dir="$(mktemp -d /var/tmp/stead-bench-XXXXXX)"
trap 'rm -rf "$dir"' EXIT
# A root of this host's own files, up to 300 MB; some 20 KiB each, as in a small Debian.
(cd / && find usr -xdev -type f -size +4k -size -2048k -printf '%s %p\n' | awk '(sum += $1) <= 300 * 1024 * 1024 { sub(/^[0-9]* /, ""); print }') >"$dir/list"
tar -C / -cf "$dir/root.tar" -T "$dir/list"

# timed NAME COMMAND… writes how many ms the command took if that is less than before.
timed() {
	local file="$dir/best-$1" from took
	shift
	sync -f "$dir"
	from=$(date +%s%N)
	"$@" >/dev/null 2>&1
	took=$((($(date +%s%N) - from) / 1000000))
	if [ ! -e "$file" ] || [ "$took" -lt "$(cat "$file")" ]; then echo "$took" >"$file"; fi
}
by_tar() { mkdir "$dir/tar" && tar -xf "$dir/root.tar" -C "$dir/tar" && sync -f "$dir/tar"; }
by_stead() { "$stead" --state-dir "$dir/state" --run-dir "$dir/run" --cgroup-parent "stead-bench-$$" --config /dev/null image import bench "$1"; }
layers=""
if command -v umoci >/dev/null; then
	layers=yes
	umoci init --layout "$dir/layout"
	umoci new --image "$dir/layout:1"
	umoci raw add-layer --image "$dir/layout:1" "$dir/root.tar"
fi
for _ in $(seq "${BENCH_IMPORTS:-3}"); do
	timed tar by_tar
	timed stead by_stead "$dir/root.tar"
	rm -rf "$dir/tar" "$dir/state"
	[ -n "$layers" ] || continue
	timed umoci sh -c 'umoci raw unpack --image "$1/layout:1" "$1/plain" && sync -f "$1/plain"' sh "$dir"
	timed stead-layout by_stead "$dir/layout:1"
	rm -rf "$dir/plain" "$dir/state"
	if command -v podman >/dev/null; then
		[ -e "$dir/layout.tar" ] || tar -cf "$dir/layout.tar" -C "$dir/layout" .
		timed podman podman --root "$dir/podman" --runroot "$dir/podman-run" load -i "$dir/layout.tar"
		podman --root "$dir/podman" --runroot "$dir/podman-run" system reset -f >/dev/null 2>&1 || true
		rm -rf "$dir/podman" "$dir/podman-run"
	fi
done
best() { cat "$dir/best-$1"; }
ratio() { echo "scale=2; $(best "$1") / $(best "$2")" | bc; }
size=$(($(stat -c %s "$dir/root.tar") >> 20))
echo "import of a root of $size MiB, $(wc -l <"$dir/list") files: ms|$(best stead)|tar x && sync -f $(best tar): $(ratio tar stead) × its speed (want ≥ 0.8 ×)"
if [ -n "$layers" ]; then
	echo "the same as an OCI layout: ms|$(best stead-layout)|umoci unpack && sync -f $(best umoci): $(ratio umoci stead-layout) × its speed (want > 1 ×)"
fi
if [ -e "$dir/best-podman" ]; then
	echo "||podman load $(best podman): $(ratio podman stead-layout) × its speed (want > 1 ×)"
fi
