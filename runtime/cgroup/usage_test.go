package cgroup

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// What each layout of cgroups tells, from files as the kernel writes them.
func TestUsage(t *testing.T) {
	pressure := map[string]string{
		"memory.pressure": "some avg10=1.50 avg60=0.25 avg300=0.00 total=2500000\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=1000000\n",
		"cpu.pressure":    "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
		"cpu.stat":        "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnice_usec 0\n",
	}
	const stalls = `"cpu":1.5,"cpuUser":1,"cpuSystem":0.5,"pressure":{"cpu":{"some":{"avg10":0,"avg60":0,"avg300":0,"total":0.000007}},` +
		`"memory":{"some":{"avg10":1.5,"avg60":0.25,"avg300":0,"total":2.5},"full":{"avg10":0.5,"avg60":0,"avg300":0,"total":1}}}`
	v1 := map[string]map[string]string{
		"memory": {
			"memory.usage_in_bytes": "4096\n", "memory.max_usage_in_bytes": "8192\n", "memory.memsw.usage_in_bytes": "5120\n",
			"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "memory.limit_in_bytes": "67108864\n",
		},
		"pids": {"pids.current": "2\n"},
	}
	for _, tt := range []struct {
		summary string
		mode    Mode
		files   map[string]map[string]string // by mount point
		want    string
		limit   int64
	}{
		{"v1", V1, v1, `{"memory":4096,"memoryPeak":8192,"swap":1024,"pids":2,"oomKills":3}`, 64 << 20},
		{
			"hybrid: time and pressure by the unified group", Hybrid,
			map[string]map[string]string{"memory": v1["memory"], "pids": v1["pids"], "unified": pressure},
			`{"memory":4096,"memoryPeak":8192,"swap":1024,"pids":2,"oomKills":3,` + stalls + `}`, 64 << 20,
		},
		{
			"v2", V2,
			map[string]map[string]string{"unified": {
				"memory.current": "4096\n", "memory.peak": "8192\n", "memory.swap.current": "0\n", "memory.max": "1048576\n", "pids.current": "1\n",
				"memory.events.local": "low 0\nmax 9\noom 2\noom_kill 2\n", "cpu.stat": "usage_usec 0\nuser_usec 0\nsystem_usec 0\n",
			}},
			`{"memory":4096,"memoryPeak":8192,"swap":0,"pids":1,"oomKills":2,"cpu":0,"cpuUser":0,"cpuSystem":0}`, 1 << 20,
		},
		{"an older v2 without swap, peaks and pressure", V2, map[string]map[string]string{"unified": {"memory.current": "1\n", "memory.max": "max\n"}}, `{"memory":1,"oomKills":0}`, None},
		{"no limit on v1", V1, map[string]map[string]string{"memory": {"memory.limit_in_bytes": "9223372036854771712\n"}}, `{}`, None},
		{"nothing at all", V2, nil, `{}`, None},
	} {
		dir := t.TempDir()
		h := &Host{Parent: "/stead", Mode: tt.mode, v1: map[string]string{}}
		for point, files := range tt.files {
			at := filepath.Join(dir, point, "stead", "web")
			if err := os.MkdirAll(at, 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, c := range controllers {
			h.v1[c] = filepath.Join(dir, c)
		}
		if tt.mode != V1 {
			h.unified = filepath.Join(dir, "unified")
		}
		got, err := json.Marshal(h.Group("web").Usage())
		if err != nil || string(got) != tt.want {
			t.Errorf("%s:\ngot  %s, %v\nwant %s", tt.summary, got, err, tt.want)
		}
		if got := h.Group("web").MemoryLimit(); got != tt.limit {
			t.Errorf("%s: limit %d, want %d", tt.summary, got, tt.limit)
		}
	}
}
