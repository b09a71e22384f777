//go:build weak

package specconv

import "stead/runtime/weak"

func init() {
	strong := look
	look = func(p *Paths, name string) (place, error) { // CVE-2017-1002101
		if weak.Is("sources by path") {
			return place{real: name, dir: true}, nil
		}
		return strong(p, name)
	}
}
