package specconv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/cgroup"
	"stead/runtime/launch"
	"stead/runtime/rootfs"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// AtDevice is the place of a failure in spec.devices. Package launch has the other places.
const AtDevice launch.Where = "device"

// AtFileSystem is the place of a failure of a file system that does not answer.
const AtFileSystem launch.Where = "file system"

// maxDevices is the highest number of devices in one directory.
const maxDevices = 256

// Devices looks up the devices of spec.devices, and their owners in root. The container gets
// nodes of its own, whoever owns those of the host; its cgroup limits how they may be opened.
func Devices(m *spec.Container, root string) ([]launch.Device, error) {
	var all []launch.Device
	for name, d := range m.Spec.Devices {
		found, err := findDevices(name, d, root)
		if errors.Is(err, fs.ErrNotExist) && d.Optional {
			continue
		}
		if err != nil {
			return nil, &Error{AtDevice, fmt.Sprintf("devices[%s]: %v", name, err)}
		}
		all = append(all, found...)
	}
	slices.SortFunc(all, func(a, b launch.Device) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// findDevices returns the device that one entry names, or those in a directory.
func findDevices(name string, d spec.Device, root string) ([]launch.Device, error) {
	mode := modeOf(d.Mode, map[string]uint32{"r": 0o444, "w": 0o222, "rw": 0o666}[d.Access])
	var owner rootfs.Identity
	if d.Owner != "" {
		var err error
		if owner, err = rootfs.LookUp(root, string(d.Owner), nil); err != nil {
			return nil, fmt.Errorf("owner %s: %w", d.Owner, err)
		}
	}
	source := d.Source
	if source == "" {
		source = name
	}
	var all []launch.Device
	add := func(inside string, st *unix.Stat_t) {
		all = append(all, launch.Device{
			Name: strings.TrimPrefix(inside, "/dev/"), Mode: st.Mode&unix.S_IFMT | mode, Dev: st.Rdev, UID: owner.UID, GID: owner.GID, Access: d.Access,
		})
	}
	var st unix.Stat_t
	if err := unix.Stat(source, &st); err != nil {
		return nil, reasonIn(source, name, err)
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case isDevice(&st):
		add(name, &st)
		return all, nil
	case kind == unix.S_IFREG:
		return nil, errors.New("found a file, want a character or block device, or a directory of them")
	case kind != unix.S_IFDIR:
		return nil, errors.New("found something else, want a character or block device, or a directory of them")
	}
	source, err := filepath.EvalSymlinks(source)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(source, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if err := unix.Lstat(path, &st); err != nil || !isDevice(&st) { // a link leads to a device beside it
			return nil
		}
		add(name+strings.TrimPrefix(path, source), &st)
		if len(all) > maxDevices {
			return fmt.Errorf("more than %d devices", maxDevices)
		}
		return nil
	})
	if err == nil && len(all) == 0 && !d.Optional {
		err = errors.New("no device is in that directory")
	}
	return all, err
}

// reasonIn adds the source to an error if the source is not the device's own path.
func reasonIn(source, name string, err error) error {
	if source == name {
		return err
	}
	return &os.PathError{Op: "open", Path: source, Err: err}
}

func isDevice(st *unix.Stat_t) bool {
	kind := st.Mode & unix.S_IFMT
	return kind == unix.S_IFCHR || kind == unix.S_IFBLK
}

// AllowedDevices returns the devices that the container's cgroup allows. In a user namespace
// no node can be made and no foreign node opened, so there the default list is only a second
// defence, left out where v1's devices controller is not mounted.
func AllowedDevices(m *spec.Container, devices []launch.Device, host *cgroup.Host) []cgroup.Device {
	if m.Spec.Security.Userns != "host" && len(devices) == 0 && !host.LimitsDevices() {
		return nil
	}
	list := cgroup.DefaultDevices()
	for _, d := range devices {
		kind := byte('c')
		if d.Mode&unix.S_IFMT == unix.S_IFBLK {
			kind = 'b'
		}
		list = append(list, cgroup.Device{Type: kind, Major: int64(unix.Major(d.Dev)), Minor: int64(unix.Minor(d.Dev)), Access: d.Access})
	}
	return list
}
