package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"stead/reconcile"
	"stead/reconcile/source"
	"stead/runtime/image/registry"
	"stead/runtime/store"
	"stead/spec"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

// defaultConfig may be missing; a file that the caller named may not.
const defaultConfig = "/etc/stead/config.yaml"

// flagValues holds the values of flags and variables. A reload combines them with the
// configuration file again.
type flagValues struct {
	stateDir      string
	config        string
	ownConfig     bool // the caller named the configuration file
	manifests     []string
	host          string
	allowWritable bool
}

// settings are the effective settings: flags and variables first, then the configuration
// file, then the defaults.
type settings struct {
	manifests []string // the search path, absolute
	host      string   // this host's name
	trust     *source.Trust
	settle    time.Duration // as in reconcile.Engine
	retention time.Duration // as in reconcile.Engine
	// firstID and ids are the pool of ids, as in runtime.Options.
	firstID, ids uint32
	registries   map[string]registry.Settings // by host
}

// settings returns the effective settings. An error contains all errors in the file.
func (f flagValues) settings(note func(string)) (settings, error) {
	c, err := f.read(note)
	if err != nil {
		return settings{}, err
	}
	s := settings{manifests: f.manifests, host: cmp.Or(f.host, c.HostName), settle: reconcile.DefaultSettle, retention: reconcile.DefaultRetention}
	if len(s.manifests) == 0 {
		s.manifests = c.Manifests
	}
	if len(s.manifests) == 0 {
		s.manifests = slices.Clone(searchPath)
	}
	if s.host == "" {
		s.host = hostName()
	}
	if c.Settle != nil {
		if s.settle = time.Duration(*c.Settle); s.settle == 0 {
			s.settle = -1
		}
	}
	if c.Retention != nil {
		s.retention = time.Duration(*c.Retention)
	}
	if c.IDs != nil {
		s.firstID, s.ids = uint32(c.IDs.First), uint32(c.IDs.Count)
	}
	for host, r := range c.Registries {
		if s.registries == nil {
			s.registries = map[string]registry.Settings{}
		}
		s.registries[host] = registry.Settings(r)
	}
	if !f.allowWritable {
		s.trust = &source.Trust{}
		for _, owner := range c.TrustedOwners {
			id, _ := userID(string(owner))
			s.trust.Owners = append(s.trust.Owners, id)
		}
	}
	return s, nil
}

// read reads the configuration file. A missing file, or one that a user without root may
// not read, counts as empty, unless the caller named it. So does /dev/null.
func (f flagValues) read(note func(string)) (*spec.Config, error) {
	info, err := os.Stat(f.config)
	if errors.Is(err, fs.ErrNotExist) && !f.ownConfig || err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return &spec.Config{}, nil
	}
	var data []byte
	if err == nil {
		data, err = readManifest(f.config, nil)
	}
	switch {
	case errors.Is(err, fs.ErrPermission) && !f.ownConfig:
		note(fmt.Sprintf("%v; using the defaults", err))
		return &spec.Config{}, nil
	case err != nil:
		return nil, err
	}
	if os.Geteuid() == 0 {
		err := store.CheckConfig(f.stateDir, f.config)
		if err == nil && !f.allowWritable {
			err = (&source.Trust{}).Check(f.config)
		}
		if err != nil {
			return nil, fmt.Errorf("refuse configuration file %s: %w", f.config, err)
		}
	}
	c, errs := spec.ParseConfig(f.config, data, func(name string) bool { _, known := userID(name); return known })
	var all *multierror.Error
	for _, e := range errs {
		all = multierror.Append(all, e)
	}
	return c, all.ErrorOrNil()
}

// userID returns the id of a user, by name or id.
func userID(name string) (uint32, bool) {
	id, err := strconv.ParseUint(name, 10, 32)
	if err == nil {
		return uint32(id), true
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, false
	}
	id, err = strconv.ParseUint(u.Uid, 10, 32)
	return uint32(id), err == nil
}

// hostName returns this host's name, with its domain if the kernel's name or /etc/hosts
// has it. Installers write /etc/hosts with an address, the full name and the short name
// (man 5 hosts). It does not ask a name server.
func hostName() string {
	name, _ := os.Hostname()
	if strings.Contains(name, ".") {
		return name
	}
	hosts, _ := os.ReadFile("/etc/hosts")
	return fullName(name, string(hosts))
}

// fullName returns the full name that a hosts file has for a short one.
func fullName(short, hosts string) string {
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 3 || !slices.Contains(fields[2:], short) {
			continue
		}
		if strings.HasPrefix(fields[1], short+".") {
			return fields[1]
		}
	}
	return short
}

// configure reads the settings. Verbs that need no settings also work with a broken
// configuration file.
func (a *app) configure(cmd *cobra.Command) error {
	flags := cmd.Root().PersistentFlags()
	if v := os.Getenv("STEAD_ALLOW_WRITABLE_MANIFESTS"); v != "" && !flags.Changed("allow-writable-manifests") {
		allow, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("STEAD_ALLOW_WRITABLE_MANIFESTS=%s: want 1 or 0", v)
		}
		a.flags.allowWritable = allow
	}
	if err := absolute(&a.flags.config); err != nil {
		return err
	}
	if err := spec.CheckHostname(a.flags.host); err != nil && a.flags.host != "" {
		return fmt.Errorf("--host %q: %w", a.flags.host, err)
	}
	a.flags.stateDir = a.stateDir
	a.flags.ownConfig = flags.Changed("config") || os.Getenv("STEAD_CONFIG") != ""
	a.verb = verbName(cmd)
	switch cmd.Name() {
	case "docs", "schema", "version", "completion", "help":
		return nil
	}
	s, err := a.flags.settings(func(text string) { fmt.Fprintln(a.err, "stead: "+text) })
	if err != nil {
		code := exitUsage
		if cmd.Name() == "exec" {
			code = exitExec
		}
		if cmd.Name() != "daemon" && cmd.Name() != "apply" && !a.flags.ownConfig {
			err = multierror.Append(err, errors.New("to continue without the file: --config /dev/null"))
		}
		return &exitError{code, err}
	}
	a.settings = s
	return nil
}
