// Package trim gives the memory back that a burst of work has taken. Go's runtime
// keeps twice what lives (runtime/debug, SetGCPercent), and a process that rests
// does not collect.
package trim

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// spare is what may lie about, bytes: less is not worth a collection.
const spare = 2 << 20

var (
	mu   sync.Mutex
	seen uint64 // what had been allocated when memory was last given back
)

// Memory gives back what is free if more was allocated since the last time than
// lived at the last collection, and spare. It takes about 1 ms of CPU for each MB
// that lives.
func Memory() {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	mu.Lock()
	defer mu.Unlock()
	metrics.Read(samples)
	if allocated, lives := samples[0].Value.Uint64(), samples[1].Value.Uint64(); allocated-seen > lives+spare {
		seen = allocated
		debug.FreeOSMemory()
	}
}
