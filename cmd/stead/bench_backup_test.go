//go:build bench

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBenchBackup compares backup and restore with tar and zstd on the same files. BENCH_MIB is the size of
// all files together, BENCH_ROUNDS the number of backups.
func TestBenchBackup(t *testing.T) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return n
		}
		return otherwise
	}
	const files, processes, changed = 3000, 100, 16
	mib, rounds := number("BENCH_MIB", 1024), number("BENCH_ROUNDS", 20)
	h := newHost(t)
	h.write("web.yaml", manifestWith("web", fmt.Sprintf("i=0; while [ $i -lt %d ]; do sleep 1000000 & i=$((i+1)); done; echo up > /var/up; while :; do head -c %d /dev/zero | tr '\\\\0' x | dd of=/var/changes conv=notrunc bs=1M status=none; sleep 0.1; done", processes, changed<<20), ""))
	h.startDaemon()
	upper := h.dir + "/state/containers/web/upper"
	h.awaitFile(upper+"/var/up", "up")
	random := rand.NewChaCha8([32]byte{1})
	b := make([]byte, mib<<20/files)
	for i := range files {
		random.Read(b[:len(b)/2]) // the other half compresses well
		dir := fmt.Sprintf("%s/var/data/%d", upper, i/100)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	syscall.Sync()
	archive := h.dir + "/web.tar.zst"
	var frozen, took []time.Duration
	memory := int64(0)
	for range rounds {
		os.Remove(archive)
		cmd := h.command("backup", "web", "-o", archive, "--max-freeze", "20s")
		began := time.Now()
		out, err := cmd.CombinedOutput()
		took = append(took, time.Since(began))
		_, still, ok := strings.Cut(string(out), "stood still for ")
		d, e := time.ParseDuration(strings.TrimSpace(still))
		if err != nil || !ok || e != nil {
			t.Fatalf("%v %s", err, out)
		}
		frozen = append(frozen, d)
		memory = max(memory, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	}
	shell := func(script string) time.Duration {
		began := time.Now()
		if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		return time.Since(began)
	}
	peer := shell("tar -C " + upper + " -cf - . | zstd -q -T0 > " + h.dir + "/peer.tar.zst && sync " + h.dir + "/peer.tar.zst")
	slices.Sort(frozen)
	slices.Sort(took)
	what := fmt.Sprintf("%d MiB in %d files, %d processes, %d MiB changed", mib, files, processes, changed)
	figure("backup of "+what, fmt.Sprintf("%.1f s, tar | zstd -T0 %.1f s: %.2f of its throughput", took[len(took)/2].Seconds(), peer.Seconds(), peer.Seconds()/took[len(took)/2].Seconds()), "want ≥ 0.6; it reads the archive again as well")
	figure("frozen", fmt.Sprintf("p50 %.0f ms, p99 %.0f ms", ms(frozen[len(frozen)/2]), ms(frozen[len(frozen)*99/100])), "want p50 ≤ 60, p99 ≤ 150")
	h.ok("stop", "web")
	began := time.Now()
	cmd := h.command("restore", "--replace", archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	restored := time.Since(began)
	memory = max(memory, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
	if err := os.Mkdir(h.dir+"/peer", 0o755); err != nil {
		t.Fatal(err)
	}
	peer = shell("zstd -q -d < " + h.dir + "/peer.tar.zst | tar -C " + h.dir + "/peer -xf - && sync -f " + h.dir + "/peer")
	figure("restore", fmt.Sprintf("%.1f s, zstd -d | tar x %.1f s: %.2f of its throughput", restored.Seconds(), peer.Seconds(), peer.Seconds()/restored.Seconds()), "want ≥ 0.8")
	figure("memory of backup and restore", fmt.Sprintf("%d MiB at most", memory>>10), "want ≤ 128")
}
