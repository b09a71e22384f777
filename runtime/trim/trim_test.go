package trim

import (
	"runtime"
	"testing"
)

// inUse is the memory for objects that was not given back, bytes.
func inUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys - m.HeapReleased
}

var burst [][]byte

// What was used and is not is given back, once: a process at rest collects nothing.
func TestMemory(t *testing.T) {
	for range 40000 {
		burst = append(burst, make([]byte, 1<<10))
	}
	runtime.GC() // which thinks that as much is needed again
	burst = nil
	runtime.GC()
	if now := inUse(); now < 20<<20 {
		t.Fatalf("%d bytes in use, want most of the 40 MiB of a burst", now)
	}
	Memory()
	if now := inUse(); now > 10<<20 {
		t.Errorf("%d bytes in use after that", now)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	collections := m.NumGC
	Memory()
	if runtime.ReadMemStats(&m); m.NumGC != collections {
		t.Error("nothing was done since, and it collects again")
	}
}
