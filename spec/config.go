package spec

import (
	"math"
	"path"
	"reflect"
	"strconv"
)

// ConfigKind is the kind of the configuration file.
const ConfigKind = "Config"

// Config is the configuration of stead on one host: /etc/stead/config.yaml. What
// is absent is left to flags, variables and their defaults.
type Config struct {
	APIVersion string `yaml:"apiVersion" enum:"stead/v1"`
	Kind       string `yaml:"kind" enum:"Config"`
	// Manifests are the manifest directories in the order of the search path.
	Manifests []string `yaml:"manifests,omitempty"`
	// HostName is this host's name for hosts: and ${stead.host}.
	HostName string `yaml:"hostName,omitempty"`
	// Settle is how long a manifest must have been gone before a removal.
	Settle *Duration `yaml:"settle,omitempty"`
	// Retention is how long the data of removed containers is kept.
	Retention *Duration `yaml:"retention,omitempty"`
	// TrustedOwners may own manifests besides root: users of this host, names or ids.
	TrustedOwners []Text `yaml:"trustedOwners,omitempty"`
	// IDs is the pool of host ids for user namespaces.
	IDs  *IDs  `yaml:"ids,omitempty"`
	Logs Later `yaml:"logs,omitempty"`
}

// IDs are host ids that no user of the host has: each container gets 65,536 of them.
type IDs struct {
	// First of them, 65536 or more.
	First int64 `yaml:"first"`
	// Count of them, 65536 or more; with First at most 4294967295.
	Count int64 `yaml:"count"`
}

// ParseConfig reads a configuration file. isUser tells whether a name that is no
// id is a user of this host. There is a Config only where there is no error.
func ParseConfig(file string, data []byte, isUser func(name string) bool) (*Config, []*Error) {
	d := &decoder{file: file, isConfig: true}
	c := &Config{}
	if root := d.decodeOneDocument(data); root != nil && d.checkPlain(root, "") {
		d.recordNode("", root)
		d.decodeStruct(root, reflect.ValueOf(c).Elem(), "")
		d.checkConfig(c, isUser)
	}
	if sortErrors(d.errs, file, nil); len(d.errs) > 0 {
		return nil, d.errs
	}
	return c, nil
}

func (d *decoder) checkConfig(c *Config, isUser func(name string) bool) {
	if c.Manifests != nil && len(c.Manifests) == 0 {
		d.errorFor("manifests", "found an empty list, want at least one directory; the usual ones are the absence of the line")
	}
	for i, dir := range c.Manifests {
		at := "manifests[" + strconv.Itoa(i) + "]"
		if dir == "" || !path.IsAbs(dir) || path.Clean(dir) != dir {
			d.checkPath(at, dir)
		}
		for _, other := range c.Manifests[:i] {
			if other == dir {
				d.errorFor(at, "%s is there twice", quote(dir))
			}
		}
	}
	if err := CheckHostname(c.HostName); err != nil && c.HostName != "" {
		d.errorFor("hostName", "found %s: %v", quote(c.HostName), err)
	}
	if c.Retention != nil && *c.Retention == 0 {
		d.errorFor("retention", "found 0, want more than 0: what is removed is kept for a while")
	}
	d.checkIDs(c.IDs)
	for i, owner := range c.TrustedOwners {
		at := "trustedOwners[" + strconv.Itoa(i) + "]"
		digits, rest := splitNumber(string(owner))
		if digits == "" || rest != "" {
			if !isUser(string(owner)) {
				d.errorFor(at, "found %s, want a user of this host, by name or id", quote(string(owner)))
			}
		} else if id, err := strconv.ParseUint(digits, 10, 32); err != nil || id == math.MaxUint32 {
			d.errorFor(at, "found %s, want an id from 0 to %d", quote(digits), uint32(math.MaxUint32-1))
		}
	}
}

// checkIDs looks for room for one container at least.
func (d *decoder) checkIDs(ids *IDs) {
	const each = 1 << 16
	if ids == nil {
		return
	}
	d.checkRange("ids.first", &ids.First, each, math.MaxUint32-each) // those below are the host's
	first := min(max(ids.First, each), math.MaxUint32-each)
	d.checkRange("ids.count", &ids.Count, each, math.MaxUint32-first)
}
