package spec

import (
	"reflect"
	"strconv"
)

// maxReplicas is the largest number of replicas of one manifest.
const maxReplicas = 1000

// Replica says which of the replicas of a manifest a container is.
type Replica struct {
	Of    string `json:"of"`    // the name of the manifest
	Index int    `json:"index"` // from 0
}

// Instance is one of the containers of a manifest with replicas.
type Instance struct {
	*Container
	Fingerprint Fingerprint
}

// Group returns the name of the manifest that a container is a replica of, "" if it is none.
func (c *Container) Group() string {
	if c.Replica == nil {
		return ""
	}
	return c.Replica.Of
}

// ManifestName returns the name that the manifest of a container has.
func (c *Container) ManifestName() string {
	if c.Replica == nil {
		return c.Metadata.Name
	}
	return c.Replica.Of
}

// replicaText describes which replica a container is, "" if it is none.
func (c *Container) replicaText() string {
	if c.Replica == nil {
		return ""
	}
	return strconv.Itoa(c.Replica.Index) + " of " + c.Replica.Of
}

// ReplicaName returns the name of a replica.
func ReplicaName(name string, index int) string { return name + "-" + strconv.Itoa(index) }

// checkReplicas checks the number of replicas, and that the longest of their names is one.
func (d *decoder) checkReplicas(c *Container) bool {
	const at = "spec.replicas"
	n := *c.Spec.Replicas
	last := ReplicaName(c.Metadata.Name, int(n)-1)
	switch {
	case n == 0:
		d.errorFor(at, "found 0, want at least 1; to have none of them run write suspend: true")
	case n < 0 || n > maxReplicas:
		d.errorFor(at, "found %d, want 1 to %d", n, maxReplicas)
	case CheckName(c.Metadata.Name) == nil && CheckName(last) != nil:
		d.errorFor("metadata.name", "is too long for %d replicas: the last is called %s, and a name has at most 63 characters", n, last)
	default:
		return true
	}
	return false
}

// finishReplicas expands, checks and normalises each replica of a decoded manifest.
func (d *decoder) finishReplicas(c *Container, host string) []Instance {
	n := int(*c.Spec.Replicas)
	all := make([]Instance, max(n, 2)) // two, since one alone would not show what they have in common
	for i := range all {
		one := clone(c)
		if CheckName(c.Metadata.Name) == nil {
			one.Metadata.Name = ReplicaName(c.Metadata.Name, i)
		}
		one.Replica, one.Spec.Replicas = &Replica{c.Metadata.Name, i}, nil
		warnings := d.warnings
		d.expandReferences(one, host)
		d.check(one)
		if i > 0 {
			d.warnings = warnings // those of the first
		}
		normalise(one)
		all[i] = Instance{one, one.Fingerprint()}
	}
	d.checkShared(&all[0].Spec, &all[1].Spec)
	return all[:n]
}

// checkShared reports what two replicas can't both have.
func (d *decoder) checkShared(a, b *Spec) {
	if r := a.Rootfs; r.Path != "" && r.Path == b.Rootfs.Path && !r.ReadOnly {
		d.errorFor("spec.rootfs.path", "is the same directory for all replicas; write ${stead.index} where they differ, as in %s-${stead.index}, or readOnly: true", escape(r.Path, 60))
	}
	for target, m := range a.Mounts {
		if m.Volume != "" && m.Volume == b.Mounts[target].Volume && !m.ReadOnly && !m.Shared {
			d.errorFor(joinPath("spec.mounts", target)+".volume", "is the same volume for all replicas; write ${stead.index} where they differ, as in %s-${stead.index}, shared: true or readOnly: true", m.Volume)
		}
	}
}

// clone returns a deep copy of a container.
func clone(c *Container) *Container {
	out := &Container{}
	copyInto(reflect.ValueOf(out).Elem(), reflect.ValueOf(c).Elem())
	return out
}

// copyInto sets v to a deep copy of from.
func copyInto(v, from reflect.Value) {
	switch from.Kind() {
	case reflect.Struct:
		for i := range from.NumField() {
			copyInto(v.Field(i), from.Field(i))
		}
	case reflect.Pointer:
		if !from.IsNil() {
			v.Set(reflect.New(from.Type().Elem()))
			copyInto(v.Elem(), from.Elem())
		}
	case reflect.Slice:
		if !from.IsNil() {
			v.Set(reflect.MakeSlice(from.Type(), from.Len(), from.Len()))
			for i := range from.Len() {
				copyInto(v.Index(i), from.Index(i))
			}
		}
	case reflect.Map:
		if !from.IsNil() {
			v.Set(reflect.MakeMapWithSize(from.Type(), from.Len()))
			for key, value := range from.Seq2() {
				item := reflect.New(value.Type()).Elem()
				copyInto(item, value)
				v.SetMapIndex(key, item)
			}
		}
	default:
		v.Set(from)
	}
}
