package runtime

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/backup"
	"stead/runtime/hostpath"
	"stead/runtime/image"
	"stead/runtime/record"
	"stead/runtime/store"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// accept checks what can be checked before anything is unpacked, and returns where trees belong that
// are no part of the directory of a container.
func (q *UnpackRequest) accept(x *backup.Index) ([]backup.Place, error) {
	name := x.Name
	if q.As != "" {
		name = q.As
	}
	if err := spec.CheckName(name); err != nil {
		return nil, fmt.Errorf("name of the container in the archive: %w", err)
	}
	f, err := store.ReadFacts(filepath.Join(q.StateDir, "containers", name))
	if errors.Is(err, os.ErrNotExist) {
		f, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	if f != nil && !q.Replace {
		return nil, &KnownError{name}
	}
	if err := CheckRestore(x, name, f, image.Open(filepath.Join(q.StateDir, "images"))); err != nil {
		return nil, err
	}
	m, err := ParseApplied(x.Applied, name)
	if err != nil {
		return nil, err
	}
	if declared := appliedName(x.Applied); declared != x.Name {
		return nil, fmt.Errorf("%w: its manifest is that of %.100q, and its files are those of %s", backup.ErrDamaged, declared, x.Name)
	}
	if f != nil {
		m = f.Manifest
	} else if name != x.Name {
		if err := checkCopy(x, m, name); err != nil {
			return nil, err
		}
		m.Metadata.Name = x.Name
		PrepareCopy(m, name)
	}
	p := placer{q: q, index: x, manifest: m}
	return p.places()
}

// checkCopy returns an error for a container that can't be restored under another name.
func checkCopy(x *backup.Index, m *spec.Container, name string) error {
	for _, mount := range mountsOf(m) {
		if mount.Kind == "bind" && mount.Writable {
			return fmt.Errorf("%s has a writable mount (%s) at %s; the copy would write there too, so none can be made under another name", x.Name, mount.Source, mount.Target)
		}
	}
	if x.Root == "path" {
		return fmt.Errorf("the root of %s is the directory %s, which can't be that of %s as well; of a container with rootfs.path no copy can be made under another name", x.Name, x.RootPath, name)
	}
	return nil
}

// PrepareCopy makes a manifest that of a copy under another name: with volumes of its own, and
// without backups of its own. It returns what changed besides the name, for people.
func PrepareCopy(m *spec.Container, name string) (changed []string) {
	old := m.Metadata.Name
	m.Metadata.Name = name
	if m.Spec.Hostname == old {
		m.Spec.Hostname = name
	}
	if m.Spec.Backup != nil {
		changed = append(changed, "it has no backup")
	}
	m.Spec.Backup = nil
	for _, target := range slices.Sorted(maps.Keys(m.Spec.Mounts)) {
		mount := m.Spec.Mounts[target]
		if mount.Volume != "" {
			was := mount.Volume
			mount.Volume = copyOfVolume(was, old, name)
			m.Spec.Mounts[target] = mount
			changed = append(changed, fmt.Sprintf("%s has the volume %s, a copy of %s", target, mount.Volume, was))
		}
	}
	return changed
}

// copyOfVolume names the volume of a copy: what begins with the old name begins with the new one, and
// the new name comes before any other.
func copyOfVolume(volume, old, name string) string {
	if rest, ok := strings.CutPrefix(volume, old); ok && (rest == "" || strings.ContainsAny(rest[:1], "-_.")) {
		return name + rest
	}
	return name + "-" + volume
}

// placer finds places for trees.
type placer struct {
	q        *UnpackRequest
	index    *backup.Index
	manifest *spec.Container // of the container as it will be
	writable *store.Writable // opened when needed
}

func (p *placer) places() (all []backup.Place, err error) {
	for _, t := range p.index.Trees {
		place := backup.Place{Tree: t, Replace: p.q.Replace}
		switch {
		case t.Volume != "":
			err = p.volume(&place)
		case t.Target != "":
			source := p.manifest.Spec.Mounts[t.Target].Source
			if source == "" {
				return nil, fmt.Errorf("the backup has what was mounted at %s, and nothing of this host is mounted there now; mount the directory where it belongs", t.Target)
			}
			err = p.directory(&place, source)
		case t.Name == backup.RootTree && p.index.Root == "path":
			at := p.index.RootPath
			if root := p.manifest.Spec.Rootfs.Path; root != "" {
				at = root
			}
			err = p.directory(&place, at)
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, place)
	}
	return all, nil
}

// volume places a volume.
func (p *placer) volume(place *backup.Place) error {
	name := place.Tree.Volume
	if m := p.manifest.Metadata.Name; m != p.index.Name {
		name = copyOfVolume(name, p.index.Name, m)
		place.Replace = false
	}
	if err := spec.CheckVolumeName(name); err != nil {
		return fmt.Errorf("volume %.100q of the archive: %w", name, err)
	}
	mounted := false
	for _, m := range p.manifest.Spec.Mounts {
		mounted = mounted || m.Volume == name
	}
	if !mounted {
		return fmt.Errorf("the backup has the volume %s, which %s does not mount; mount it first", name, p.manifest.Metadata.Name)
	}
	store := Volumes(p.q.StateDir)
	if _, err := os.Lstat(store.Path(name)); err == nil && !place.Replace {
		return fmt.Errorf("there is a volume %s on this host already; delete it (stead volume remove), or restore under the old name with --replace, which keeps it as another volume", name)
	}
	if err := os.MkdirAll(store.Dir, 0o700); err != nil {
		return err
	}
	place.Target = store.Path(name)
	place.Beside = store.Path(".restore-" + filepath.Base(p.q.Staging) + "-" + name)
	return nil
}

// directory places a directory of the host, following no link that a container may have made.
func (p *placer) directory(place *backup.Place, at string) (err error) {
	if !filepath.IsAbs(at) || filepath.Clean(at) != at || at == "/" {
		return fmt.Errorf("%.200q, a directory of the archive, is no path of a directory", at)
	}
	if p.writable == nil {
		if p.writable, err = store.OpenWritable(p.q.StateDir); err != nil {
			return err
		}
	}
	fd, real, err := hostpath.Open(at, p.writable.Contains)
	if errors.Is(err, os.ErrNotExist) { // it is made
		if fd, real, err = hostpath.Open(filepath.Dir(at), p.writable.Contains); err == nil {
			real = filepath.Join(real, filepath.Base(at))
		}
	}
	if err != nil {
		return fmt.Errorf("open the place of %s: %w", at, err)
	}
	unix.Close(fd)
	if old, err := os.ReadDir(real); err == nil && len(old) > 0 && !place.Replace {
		return fmt.Errorf("%s is there, and not empty; move it away first", at)
	}
	place.Target = real
	place.Beside = fmt.Sprintf("%s.restore-%s", real, filepath.Base(p.q.Staging))
	return nil
}

// changedPlace returns a directory of the host that a manifest has elsewhere than when places were
// chosen, "" if there is none.
func changedPlace(m *spec.Container, v *backup.Staged) string {
	for _, p := range v.Places {
		at := m.Spec.Mounts[p.Tree.Target].Source
		switch {
		case p.Tree.Volume != "":
			continue
		case p.Tree.Target == "":
			at = m.Spec.Rootfs.Path
		}
		if real, _ := hostpath.Resolve(at); real != p.Target {
			return p.Target
		}
	}
	return ""
}

// claimRestored checks that no other container that runs uses what is restored, and keeps others from
// starting to, until done.
func (r *Runtime) claimRestored(name string, v *backup.Staged) (done func(), err error) {
	var claimed []string
	done = func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, dir := range claimed {
			delete(r.restoring, dir)
		}
	}
	running := map[string]*spec.Container{}
	r.mu.Lock()
	for _, p := range v.Places {
		if other := r.restoring[p.Target]; other != "" {
			err = fmt.Errorf("%s is being restored already, with %s", p.Target, other)
			break
		}
		r.restoring[p.Target] = name
		claimed = append(claimed, p.Target)
	}
	for _, c := range r.ordered {
		if c.name != name && c.rec != nil && c.rec.State != record.Exited {
			running[c.name] = c.facts.Manifest
		}
	}
	r.mu.Unlock()
	for _, other := range slices.Sorted(maps.Keys(running)) {
		for _, dir := range claimed {
			if err == nil && r.uses(running[other], dir) {
				err = fmt.Errorf("%s runs and uses %s; run stead stop %[1]s, this restore again, and stead start %[1]s", other, dir)
			}
		}
	}
	if err != nil {
		done()
	}
	return done, err
}

// uses reports whether a manifest uses a directory of the host, or one in or around it.
func (r *Runtime) uses(m *spec.Container, dir string) bool {
	within := func(path string) bool {
		real := hostpath.Resolver(nil).ResolveLocal(path)
		return hostpath.Within(real, dir) || hostpath.Within(dir, real)
	}
	for _, mount := range m.Spec.Mounts {
		if mount.Volume != "" && Volumes(r.StateDir).Path(mount.Volume) == dir || mount.Source != "" && within(mount.Source) {
			return true
		}
	}
	return m.Spec.Rootfs.Path != "" && within(m.Spec.Rootfs.Path)
}

// checkRestoring returns an error while a directory that a manifest uses is being restored.
func (r *Runtime) checkRestoring(m *spec.Container) error {
	r.mu.Lock()
	restoring := maps.Clone(r.restoring)
	r.mu.Unlock()
	for dir, name := range restoring {
		if r.uses(m, dir) {
			return fmt.Errorf("%s is being restored, with %s", dir, name)
		}
	}
	return nil
}
