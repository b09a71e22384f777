package spec

import (
	"math"
	"net"
	"path"
	"reflect"
	"strconv"
	"strings"
)

// ConfigKind is the kind of the configuration file.
const ConfigKind = "Config"

// Config is the configuration of stead on one host: /etc/stead/config.yaml. For an
// absent field, flags, environment variables and their defaults decide.
type Config struct {
	APIVersion string `yaml:"apiVersion" enum:"stead/v1"`
	Kind       string `yaml:"kind" enum:"Config"`
	// Manifests are the manifest directories in the order of the search path.
	Manifests []string `yaml:"manifests,omitempty"`
	// HostName is the name of this host, for hosts: and ${stead.host}.
	HostName string `yaml:"hostName,omitempty"`
	// Settle is how long a manifest must be missing before its container is removed.
	Settle *Duration `yaml:"settle,omitempty"`
	// Retention is how long the data of removed containers is kept.
	Retention *Duration `yaml:"retention,omitempty"`
	// TrustedOwners may own manifests besides root: users of this host, names or ids.
	TrustedOwners []Text `yaml:"trustedOwners,omitempty"`
	// IDs is the pool of host ids for user namespaces.
	IDs *IDs `yaml:"ids,omitempty"`
	// Registries are settings of registries of images, by host: docker.io, localhost:5000.
	Registries map[string]Registry `yaml:"registries,omitempty"`
	Logs       Later               `yaml:"logs,omitempty"`
}

// Registry has the settings of one registry.
type Registry struct {
	// Mirrors are asked before the registry, in this order: host[:port][/path].
	Mirrors []string `yaml:"mirrors,omitempty"`
	// MirrorsOnly makes a pull fail rather than ask the registry itself.
	MirrorsOnly bool `yaml:"mirrorsOnly,omitempty"`
	// Insecure allows unencrypted HTTP, to this host itself only.
	Insecure bool `yaml:"insecure,omitempty"`
}

// IDs is a range of host ids that no user of the host has. Each container gets 65,536.
type IDs struct {
	// First is the first id of the range, 65536 or more.
	First int64 `yaml:"first"`
	// Count is the number of ids, 65536 or more. First plus Count is at most 4294967295.
	Count int64 `yaml:"count"`
}

// ParseConfig reads a configuration file. isUser reports whether a name is a user of
// this host. The Config is nil if there are errors.
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
		d.errorFor("manifests", "found an empty list, want at least one directory; for the default directories remove the line")
	}
	for i, dir := range c.Manifests {
		at := "manifests[" + strconv.Itoa(i) + "]"
		if dir == "" || !path.IsAbs(dir) || path.Clean(dir) != dir {
			d.checkPath(at, dir)
		}
		for _, other := range c.Manifests[:i] {
			if other == dir {
				d.errorFor(at, "%s is listed twice", quote(dir))
			}
		}
	}
	if err := CheckHostname(c.HostName); err != nil && c.HostName != "" {
		d.errorFor("hostName", "found %s: %v", quote(c.HostName), err)
	}
	if c.Retention != nil && *c.Retention == 0 {
		d.errorFor("retention", "found 0, want more than 0: the data of removed containers is always kept for some time")
	}
	d.checkIDs(c.IDs)
	d.checkRegistries(c.Registries)
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

// checkRegistries checks the settings of registries.
func (d *decoder) checkRegistries(registries map[string]Registry) {
	for host, r := range registries {
		at := "registries[" + host + "]"
		if !isRegistry(host) {
			d.errorFor(at, "found %s, want the host of a registry, such as docker.io or localhost:5000", quote(host))
		}
		if r.Insecure && !isLoopback(host) {
			d.errorFor(at+".insecure", "found true, want it for localhost or 127.0.0.1 only: nobody else can be trusted without encryption")
		}
		if r.MirrorsOnly && len(r.Mirrors) == 0 {
			d.errorFor(at+".mirrorsOnly", "found true, want at least one mirror")
		}
		for i, m := range r.Mirrors {
			name, _, _ := strings.Cut(m, "/")
			if !isRegistry(name) || strings.HasSuffix(m, "/") {
				d.errorFor(at+".mirrors["+strconv.Itoa(i)+"]", "found %s, want a host, perhaps with a port and a path, such as mirror.example.com/docker", quote(m))
			}
		}
	}
}

// isRegistry reports whether s is the host of a registry, perhaps with a port.
func isRegistry(s string) bool {
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return false
		}
	}
	return isDomain(host) && (hasPort || strings.Contains(host, ".") || host == "localhost")
}

// isLoopback reports whether a registry is on this host.
func isLoopback(registry string) bool {
	host, _, _ := strings.Cut(registry, ":")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// checkIDs checks that the ids suffice for one container.
func (d *decoder) checkIDs(ids *IDs) {
	const each = 1 << 16
	if ids == nil {
		return
	}
	d.checkRange("ids.first", &ids.First, each, math.MaxUint32-each) // those below are the host's
	first := min(max(ids.First, each), math.MaxUint32-each)
	d.checkRange("ids.count", &ids.Count, each, math.MaxUint32-first)
}
