package spec

import "testing"

// FuzzQuantity: a quantity that is read is printed as one that is read as the
// same, and none is below 0.
func FuzzQuantity(f *testing.F) {
	for _, s := range []string{"0", "64Mi", "1.5Gi", "8388607Ti", "500m", "0.5", "1d12h", "1m30s", "106751d", "9223372036854775807", "-1", "1e3", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if v, err := ParseBytes(s); err == nil {
			if back, err := ParseBytes(v.String()); err != nil || back != v || v < 0 {
				t.Errorf("%q is %d bytes, %s, and that is %d (%v)", s, int64(v), v, int64(back), err)
			}
		}
		if v, err := ParseCPU(s); err == nil {
			if back, err := ParseCPU(v.String()); err != nil || back != v || v < 0 {
				t.Errorf("%q is %d millicores, %s, and that is %d (%v)", s, int64(v), v, int64(back), err)
			}
		}
		if v, err := ParseDuration(s); err == nil {
			if back, err := ParseDuration(v.String()); err != nil || back != v || v < 0 {
				t.Errorf("%q is %d ns, %s, and that is %d (%v)", s, int64(v), v, int64(back), err)
			}
		}
	})
}
