//go:build weak

package rootfs

import "stead/runtime/weak"

func init() { idsBeforeNames = func() bool { return !weak.Is("names before numbers") } } // CVE-2016-3697
