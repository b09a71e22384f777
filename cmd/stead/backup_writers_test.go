package main

import (
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"
)

// writers is a program that commits numbered rows as fast as it can, and writes the number of the last
// one that is committed to /ack.
const writers = `
import mmap, os, sqlite3, struct, sys, zlib
kind, path = sys.argv[1:]
ack = os.open("/ack/" + kind, os.O_RDWR | os.O_CREAT, 0o644)
def acknowledge(n): os.pwrite(ack, b"%12d\n" % n, 0)
if kind == "mmap":
    with open(path, "wb") as f: f.truncate(1 << 20)
    m = mmap.mmap(os.open(path, os.O_RDWR), 1 << 20)
    n = 0
    while True:
        for slot in range(1, (1 << 20) // 64):
            n += 1
            row = struct.pack("<Q", n)
            m[slot*64:slot*64+12] = row + struct.pack("<I", zlib.crc32(row))
            m[0:8] = row # the last one that is whole
            acknowledge(n)
db = sqlite3.connect(path, isolation_level=None)
if kind == "wal":
    db.execute("pragma journal_mode=wal"); db.execute("pragma mmap_size=268435456"); db.execute("pragma wal_autocheckpoint=50")
db.execute("create table rows (n integer primary key, text)")
n = 0
while True:
    n += 1
    db.execute("begin"); db.execute("insert into rows values (?, ?)", (n, "x" * 300)); db.execute("commit")
    acknowledge(n)
`

// checkRows checks the copy of what a writer wrote: rows 1 to n, for an n that is returned.
func checkRows(t *testing.T, kind, file string) (n int) {
	t.Helper()
	if kind != "mmap" {
		out, err := exec.Command("sqlite3", file, "pragma integrity_check; select count(*) from rows; select max(n) from rows").CombinedOutput()
		words := strings.Fields(string(out))
		if err != nil || len(words) != 3 || words[0] != "ok" || words[1] != words[2] {
			t.Fatalf("%s: %v %s", kind, err, out)
		}
		n, _ = strconv.Atoi(words[1])
		return n
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	number := func(slot int) (n int) {
		for i := range 8 {
			n |= int(b[slot*64+i]) << (8 * i)
		}
		return n
	}
	slots := len(b)/64 - 1
	n = number(0)
	for i := max(1, n-slots+2); i <= n; i++ { // all but the one that may be half overwritten
		slot := (i-1)%slots + 1
		row := b[slot*64 : slot*64+12]
		if number(slot) != i || crc32.ChecksumIEEE(row[:8]) != uint32(row[8])|uint32(row[9])<<8|uint32(row[10])<<16|uint32(row[11])<<24 {
			t.Fatalf("row %d of %d: found %d", i, n, number(slot))
		}
	}
	return n
}

// Through 20 backups (4 with -short) SQLite, with a journal and with a write-ahead log and files mapped into memory, and
// a program that stores into a mapped file commit rows all the time. Each restored copy is whole and has
// all rows that were acknowledged before.
func TestBackupOfWriters(t *testing.T) {
	h := newHost(t)
	for _, program := range []string{"python3", "sqlite3"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	kinds := map[string]string{"journal": "/var/db", "wal": "/data/db", "mmap": "/data/db"}
	for _, dir := range []string{"ack", "program"} {
		if err := os.Mkdir(h.dir+"/"+dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, h.dir+"/program/writers.py", writers)
	names := []string{}
	for kind, file := range kinds {
		mounts := fmt.Sprintf("  mounts: {/ack: {source: %[1]s/ack}, /program: {source: %[1]s/program, readOnly: true}, /data: {volume: %[2]s}}\n  resources: {cpu: 300m}\n", h.dir, kind)
		h.write(kind+".yaml", manifestWith(kind, "exec python3 /program/writers.py "+kind+" "+file, mounts))
		names = append(names, kind)
	}
	h.startDaemon()
	acknowledged := func(kind string) int {
		b, _ := os.ReadFile(h.dir + "/ack/" + kind)
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	for _, kind := range names {
		for end := time.Now().Add(roottest.Patience); acknowledged(kind) < 100; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s writes nothing: %s", kind, h.stead("logs", kind).out)
			}
		}
	}
	count := 20
	if testing.Short() {
		count = 4
	}
	before := make([]map[string]int, count)
	for i := range before {
		before[i] = map[string]int{}
		for _, kind := range names {
			before[i][kind] = acknowledged(kind)
		}
		dir := fmt.Sprintf("%s/backups/%d", h.dir, i)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		h.ok(append([]string{"backup", "-o", dir}, names...)...)
	}
	after := map[string]int{}
	for _, kind := range names {
		h.ok("stop", kind)
		after[kind] = acknowledged(kind)
	}
	other := hostOf(t)
	for _, kind := range names {
		last := 0
		for i := range before {
			archives, _ := filepath.Glob(fmt.Sprintf("%s/backups/%d/%s-*", h.dir, i, kind))
			if len(archives) != 1 {
				t.Fatalf("backup %d of %s: %v", i, kind, archives)
			}
			other.ok("restore", "--replace", archives[0])
			os.Remove(other.manifests + "/" + kind + ".yaml")
			file := other.dir + "/state/volumes/" + kind + "/db"
			if kind == "journal" {
				all, _ := filepath.Glob(other.dir + "/state/removed/journal@*/upper/var/db")
				if len(all) != 1 {
					t.Fatalf("restored: %v", all)
				}
				file = all[0]
			}
			n := checkRows(t, kind, file)
			if n < before[i][kind] || n < last || n > after[kind] {
				t.Errorf("backup %d of %s has %d rows; %d were acknowledged before, the last backup had %d", i, kind, n, before[i][kind], last)
			}
			last = n
			if kind == "journal" {
				other.ok("purge", kind)
			}
		}
		if last <= before[0][kind] {
			t.Errorf("%s wrote nothing meanwhile: the test shows nothing", kind)
		}
		t.Logf("%s: %d rows in the last backup", kind, last)
	}
}
