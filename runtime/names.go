package runtime

import (
	"os"
	"path"
	"slices"

	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/rootfs"
	"stead/runtime/specconv"
	"stead/spec"
)

// addNames mounts files of this run over /etc/hosts, /etc/hostname and /etc/resolv.conf where
// a root has no such files of its own. A host root has them, and they follow the manifest. Those
// that an image has are of the machine on which it was made; the container's own are those in
// upper.
func (r *Runtime) addNames(config *launch.Config, rec *record.Record, m *spec.Container) error {
	if m.Spec.Rootfs.Host != nil {
		return nil
	}
	files := specconv.NamesOf(m).Files()
	if m.Spec.Network.Mode == "none" {
		delete(files, "resolv.conf")
	}
	for name, text := range files {
		target := "/etc/" + name
		declared := func(l launch.Mount) bool { t := path.Clean(l.Target); return t == target || t == "/etc" }
		lacks := rootfs.Lacks(config.Root.Path, name)
		if m.Spec.Rootfs.Image != "" {
			lacks = rootfs.LacksOwn(config.Root.Path, r.dir(m.Metadata.Name)+"/upper", name)
		}
		if slices.ContainsFunc(config.Mounts, declared) || !lacks {
			continue
		}
		file := record.NamesPath(r.RunDir, rec.ID(), name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		if err := os.Chmod(file, 0o644); err != nil { // whatever the umask
			return err
		}
		// Not mapped: the file is for reading, and a tmpfs can't map ids before Linux 6.3.
		config.Mounts = append(config.Mounts, launch.Mount{Target: target, Source: file, ReadOnly: true, NoIDMap: true})
	}
	return nil
}
