package runtime

import (
	"context"
	"errors"
	"path"

	"stead/runtime/specconv"
	"stead/runtime/touch"
	"stead/spec"
)

// mayUse returns an error if a file system that a start with m would use does not answer. It
// comes before this process or the keeper touches the root or a source.
func (r *Runtime) mayUse(ctx context.Context, m *spec.Container) error {
	p := touch.Paths{Root: m.Spec.Rootfs.Path, Inside: []string{"/etc/passwd", "/etc/group", m.Spec.WorkingDir}}
	for target, w := range m.Spec.Mounts {
		p.Inside = append(p.Inside, target)
		if w.Create {
			p.Outside = append(p.Outside, path.Dir(w.Source))
		}
		if w.Source != "" {
			p.Outside = append(p.Outside, w.Source)
		}
	}
	for target := range m.Spec.Files {
		p.Inside = append(p.Inside, target)
	}
	p.Outside = append(p.Outside, m.SourcePaths()...)
	if len(m.Spec.Command) > 0 {
		if command := m.Spec.Command[0]; path.IsAbs(command) {
			p.Inside = append(p.Inside, command)
		} else {
			for _, dir := range []string{"/usr/local/bin", "/usr/bin", "/bin"} {
				p.Inside = append(p.Inside, path.Join(dir, command))
			}
		}
	}
	err := r.guard.Touch(ctx, p)
	var hung *touch.HungError
	if errors.As(err, &hung) {
		return &specconv.Error{Where: specconv.AtFileSystem, Message: hung.Error()}
	}
	return err
}
