// Package trim returns memory to the kernel after a burst of work. Go's runtime keeps twice the
// live heap (runtime/debug, SetGCPercent), and an idle process does not collect.
package trim

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// spare is how many bytes may stay unused: less is not worth a collection.
const spare = 2 << 20

var (
	mu   sync.Mutex
	seen uint64 // total allocations when memory was last returned, bytes
)

// Memory returns free memory to the kernel if more than the live heap of the last collection
// and spare was allocated since the last call. It takes about 1 ms of CPU per MB of
// live heap.
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
