package specconv

import (
	"fmt"

	"stead/runtime/launch"
	"stead/runtime/rootfs"
	"stead/runtime/volume"
	"stead/spec"
)

// AtVolume is the place of a failure to get a volume. Package launch has the other places.
const AtVolume launch.Where = "volume"

// VolumeOwner returns whose a new volume is. It looks up names in root.
func VolumeOwner(target string, w spec.Mount, m *spec.Container, root string) (o volume.Owner, err error) {
	o.Mode, o.HasMode, o.HasOwner = modeOf(w.Mode, 0o755), w.Mode != "", w.Owner != ""
	owner := w.Owner
	if owner == "" {
		owner = m.Spec.User
	}
	id, err := rootfs.LookUp(root, string(owner), nil)
	if err != nil {
		return o, &Error{AtUser, fmt.Sprintf("mounts[%s].owner: %v", target, err)}
	}
	o.UID, o.GID = id.UID, id.GID
	return o, nil
}
