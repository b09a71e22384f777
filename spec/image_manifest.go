package spec

import (
	"reflect"
	"strconv"

	"gopkg.in/yaml.v3"
)

// parseImage reads a manifest that declares an image. No drop-in is for one.
func (p Parser) parseImage(file string, root *yaml.Node, doc *Document) {
	doc.IsImage = true
	d := &decoder{file: file}
	m := &Image{}
	if d.checkPlain(root, "") {
		d.recordNode("", root)
		d.decodeStruct(root, reflect.ValueOf(m).Elem(), "")
		d.checkImageManifest(m)
	}
	sortErrors(d.errs, file, nil)
	if doc.Errors = d.errs; len(d.errs) > 0 {
		return
	}
	m.Spec.Hosts = sortUnique(m.Spec.Hosts)
	doc.Image, doc.Warnings, doc.Elsewhere = m, d.warnings, !MatchHost(m.Spec.Hosts, p.Host)
	doc.Root = d.place("spec.source")
}

func (d *decoder) checkImageManifest(m *Image) {
	if err := CheckName(m.Metadata.Name); err != nil {
		d.errorFor("metadata.name", "found %s: %s", quote(m.Metadata.Name), err)
	}
	d.checkHosts(m.Spec.Hosts)
	const at = "spec.source"
	given := 0
	for _, one := range []struct{ name, value string }{
		{"registry", m.Spec.Source.Registry}, {"directory", m.Spec.Source.Directory}, {"archive", m.Spec.Source.Archive}, {"layout", m.Spec.Source.Layout},
	} {
		if one.value == "" {
			continue
		}
		given++
		if one.name != "registry" {
			d.checkPath(at+"."+one.name, one.value)
		} else if !IsReference(one.value) {
			d.errorFor(at+".registry", "found %s: want a complete reference such as docker.io/library/debian:12", quote(one.value))
		} else if err := CheckImage(one.value); err != nil {
			d.errorFor(at+".registry", "found %s: %s", quote(one.value), err)
		}
	}
	if given != 1 {
		d.errorFor(at, "found %s of registry, directory, archive and layout, want exactly one of them", strconv.Itoa(given))
	}
	if digest := m.Spec.Digest; digest != "" {
		if err := checkDigest(digest); err != nil {
			d.errorFor("spec.digest", "found %s: %s", quote(digest), err)
		} else if m.Spec.Source.Directory != "" {
			d.errorFor("spec.digest", "a directory has no digest; leave it out, or make an archive of the directory")
		}
	}
}

// leaveToImage takes back the defaults of the fields that an image gives if the manifest, whose
// root is an image, leaves them absent.
func (c *Container) leaveToImage(root *yaml.Node) {
	s := &c.Spec
	if s.Rootfs.Image == "" {
		return
	}
	given := lookup(root, "spec")
	if lookup(given, "user") == nil {
		s.User = ""
	}
	if lookup(given, "workingDir") == nil {
		s.WorkingDir = ""
	}
	if lookup(lookup(given, "stop"), "signal") == nil {
		s.Stop.Signal = ""
	}
}
