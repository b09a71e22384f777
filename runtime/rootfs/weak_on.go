//go:build weak

package rootfs

import "stead/runtime/weak"

func init() { numbersFirst = func() bool { return !weak.Is("names before numbers") } } // CVE-2016-3697
