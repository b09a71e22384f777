#!/usr/bin/env bash
# compare.sh OLD [NEW] - the benchmarks of two revisions, held side by side by
# benchstat: from create to removed, writing logs, starting. As root.
set -euo pipefail
cd "$(dirname "$0")/../.."
old="${1:?usage: compare.sh OLD [NEW]}" new="${2:-HEAD}"
dir="$(mktemp -d /var/tmp/stead-compare-XXXXXX)"
trap 'for r in old new; do git worktree remove --force "$dir/$r" 2>/dev/null || true; done; rm -rf "$dir"' EXIT
git worktree add --quiet --detach "$dir/old" "$old"
git worktree add --quiet --detach "$dir/new" "$new"
for round in 1 2 3 4 5 6; do # in turn: the machine's mood is shared
	for r in old new; do
		(cd "$dir/$r" && CGO_ENABLED=0 go test -run xxx -bench 'CreateToRemoved|BenchmarkStart|BenchmarkWrite|PassNothingToDo' -benchtime 50x \
			./runtime ./runtime/launch ./runtime/logs ./reconcile) >>"$dir/$r.txt" 2>/dev/null || true
	done
	echo "round $round of 6" >&2
done
go tool -modfile=.ci/tools.mod benchstat "old=$dir/old.txt" "new=$dir/new.txt"
