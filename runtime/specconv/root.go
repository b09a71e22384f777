package specconv

import "stead/spec"

import ()

// rootOf returns the root directory of a container; dir is the container's own.
func Root(m *spec.Container, dir string) string {
	if m.Spec.Rootfs.Host != nil {
		return dir + "/upper"
	}
	return m.Spec.Rootfs.Path
}
