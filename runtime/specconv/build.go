package specconv

import (
	"stead/runtime/launch"
	"stead/runtime/rootfs"
	"stead/spec"
)

// Root returns the root directory of a container on the host; dir is the container's own
// directory.
func Root(m *spec.Container, dir string) string {
	switch {
	case m.Spec.Rootfs.Image != "":
		return dir + "/root"
	case m.Spec.Rootfs.Host != nil:
		return dir + "/upper"
	}
	return m.Spec.Rootfs.Path
}

// Build translates a manifest into a launch configuration, as far as that does not depend
// on the run. It makes a missing host root at root, and lets its /etc follow the host. writable
// are the directories of the host that the container will be able to write.
func Build(m *spec.Container, root string, p *Paths) (c *launch.Config, writable []string, err error) {
	if m.Spec.Rootfs.Host != nil {
		if err := p.etc.Prepare(root, NamesOf(m)); err != nil {
			return nil, nil, err
		}
	}
	return build(m, root, p)
}

// FollowHost lets the /etc of the host root at root follow the host. Without names, it keeps
// those that it has.
func (p *Paths) FollowHost(root string, names rootfs.Names) error { return p.etc.Update(root, names) }

// HostView opens a view of a new host root; at is any directory of the host.
func (p *Paths) HostView(at string) (*rootfs.View, error) { return rootfs.OpenHostView(at, &p.etc) }

// NamesOf returns the names by which a container knows itself and others.
func NamesOf(m *spec.Container) rootfs.Names {
	return rootfs.Names{Hostname: m.Spec.Hostname, HostNetwork: m.Spec.Network.Mode == "host"}
}

// build is Build for a root that exists.
func build(m *spec.Container, root string, p *Paths) (c *launch.Config, writable []string, err error) {
	c = &launch.Config{
		Root:        launch.Root{Path: root, ReadOnly: m.Spec.Rootfs.ReadOnly},
		HostNetwork: m.Spec.Network.Mode == "host", HostPids: m.Spec.Security.Pid == "host", Hostname: m.Spec.Hostname,
		ShmSize: shmSize(m), Sysctls: sysctls(m),
	}
	if m.Spec.Rootfs.Host != nil {
		c.Root.Usr = "/usr"
	}
	if c.Mounts, err = Mounts(m, root); err != nil {
		return nil, nil, err
	}
	if writable, err = p.Resolve(&c.Root, m.Spec.Rootfs.Path == "", c.Mounts); err != nil {
		return nil, nil, err
	}
	if c.Process, err = Process(m, c.Root.Path); err != nil {
		return nil, nil, err
	}
	if c.Devices, err = Devices(m, c.Root.Path); err != nil {
		return nil, nil, err
	}
	return c, writable, nil
}
