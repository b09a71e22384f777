package spec

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"testing/quick"
	"time"
)

func TestScalars(t *testing.T) {
	parsers := map[string]func(string) (string, int64, error){
		"size":     func(s string) (string, int64, error) { v, err := ParseBytes(s); return v.String(), int64(v), err },
		"cpu":      func(s string) (string, int64, error) { v, err := ParseCPU(s); return v.String(), int64(v), err },
		"duration": func(s string) (string, int64, error) { v, err := ParseDuration(s); return v.String(), int64(v), err },
	}
	for _, test := range []struct {
		kind, text string
		value      int64 // -1: refused
		printed    string
	}{
		{"size", "0", 0, "0"},
		{"size", "1", 1, "1"},
		{"size", "1024", 1024, "1Ki"},
		{"size", "1536Mi", 1536 << 20, "1536Mi"},
		{"size", "2048Gi", 2 << 40, "2Ti"},
		{"size", "8388607Ti", 8388607 << 40, "8388607Ti"},
		{"size", "9223372036854775807", math.MaxInt64, "9223372036854775807"},
		{"size", "9223372036854775808", -1, ""},
		{"size", "8388608Ti", -1, ""},
		{"size", "007", -1, ""},
		{"size", "-1", -1, ""},
		{"size", "+1", -1, ""},
		{"size", "1.5Gi", -1, ""},
		{"size", "1e3", -1, ""},
		{"size", "64Mib", -1, ""},
		{"size", "64 Mi", -1, ""},
		{"size", "1Pi", -1, ""},
		{"size", "Mi", -1, ""},
		{"size", "", -1, ""},
		{"cpu", "2", 2000, "2"},
		{"cpu", "0.5", 500, "500m"},
		{"cpu", "500m", 500, "500m"},
		{"cpu", "1.25", 1250, "1250m"},
		{"cpu", "0.001", 1, "1m"},
		{"cpu", "1000m", 1000, "1"},
		{"cpu", "0.0001", -1, ""},
		{"cpu", "9223372036854775.807", math.MaxInt64, "9223372036854775807m"},
		{"cpu", "9223372036854775.808", -1, ""},
		{"cpu", "9223372036854776", -1, ""},
		{"cpu", "1.", -1, ""},
		{"cpu", ".5", -1, ""},
		{"cpu", "1.5m", -1, ""},
		{"cpu", "50%", -1, ""},
		{"cpu", "1,5", -1, ""},
		{"cpu", "-1", -1, ""},
		{"duration", "0", 0, "0"},
		{"duration", "10s", 10e9, "10s"},
		{"duration", "90s", 90e9, "1m30s"},
		{"duration", "60m", 3600e9, "1h"},
		{"duration", "1h10m", 4200e9, "1h10m"},
		{"duration", "1.5s", 15e8, "1.5s"},
		{"duration", "250ms", 25e7, "250ms"},
		{"duration", "2d", 172800e9, "2d"},
		{"duration", "1d12h", 129600e9, "1d12h"},
		{"duration", "36h", 129600e9, "1d12h"},
		{"duration", "106751d23h47m16s854ms775us807ns", math.MaxInt64, "106751d23h47m16.854775807s"},
		{"duration", "106751d24h", -1, ""},
		{"duration", "106752d", -1, ""},
		{"duration", "10", -1, ""},
		{"duration", "1.5d", -1, ""},
		{"duration", "1d-1h", -1, ""},
		{"duration", "-1s", -1, ""},
		{"duration", "1s1d", -1, ""},
		{"duration", "1w", -1, ""},
	} {
		printed, value, err := parsers[test.kind](test.text)
		if test.value < 0 {
			if err == nil {
				t.Errorf("%s %q is %d, want it refused", test.kind, test.text, value)
			}
			continue
		}
		if err != nil || value != test.value || printed != test.printed {
			t.Errorf("%s %q is %d, printed %s (%v), want %d, printed %s", test.kind, test.text, value, printed, err, test.value, test.printed)
		}
	}
}

// What is printed can be read again, whatever the value.
func TestScalarsRoundTrip(t *testing.T) {
	whole := func(n int64) bool {
		n &= math.MaxInt64
		for shift := range 64 {
			m := n >> shift << (shift / 2) // small, large, round and odd ones
			if m < 0 {
				continue
			}
			b, err := ParseBytes(Bytes(m).String())
			c, err2 := ParseCPU(CPU(m).String())
			d, err3 := ParseDuration(Duration(m).String())
			if err != nil || err2 != nil || err3 != nil || int64(b) != m || int64(c) != m || int64(d) != m {
				t.Logf("%d: %v %v %v", m, err, err2, err3)
				return false
			}
		}
		return true
	}
	if err := quick.Check(whole, nil); err != nil {
		t.Error(err)
	}
}

// The JSON of stored records and of `-o json`: sizes are bytes.
func TestScalarsInJSON(t *testing.T) {
	type record struct {
		Size Bytes
		CPU  CPU
		Time Duration
	}
	data, err := json.Marshal(record{256 << 20, 500, Duration(90 * time.Second)})
	if want := `{"Size":268435456,"CPU":"500m","Time":"1m30s"}`; err != nil || string(data) != want {
		t.Errorf("got %s (%v), want %s", data, err, want)
	}
	var back record
	if err := json.Unmarshal([]byte(`{"Size":"256Mi","CPU":"0.5","Time":"90s"}`), &back); err != nil || back != (record{256 << 20, 500, Duration(90 * time.Second)}) {
		t.Errorf("read %+v (%v)", back, err)
	}
	for _, bad := range []string{`{"Size":-1}`, `{"Size":1.5}`, `{"Size":"1G"}`, `{"CPU":"x"}`, `{"Time":5}`} {
		if err := json.Unmarshal([]byte(bad), &back); err == nil {
			t.Errorf("read %s", bad)
		}
	}
	if got := fmt.Sprint(Bytes(1<<20), CPU(1500), Duration(time.Hour)); got != "1Mi 1500m 1h" {
		t.Errorf("prints %s", got)
	}
}
