package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Default sets absent fields to their defaults. Parse does this itself. A record of an
// older version, read with encoding/json, needs it for fields that were added later.
func (c *Container) Default() {
	c.convertOld()
	s := &c.Spec
	user, dir, signal := s.User, s.WorkingDir, s.Stop.Signal
	fillDefaults(reflect.ValueOf(c).Elem())
	if s.Rootfs.Image != "" { // what is absent there comes from the image
		s.User, s.WorkingDir, s.Stop.Signal = user, dir, signal
	}
	if c.Spec.Hostname == "${stead.name}" {
		c.Spec.Hostname = c.Metadata.Name
	}
}

// convertOld moves the values of removed fields, in a record of an older version, to
// the fields that replaced them.
func (c *Container) convertOld() {
	s := &c.Spec
	switch s.OldRunOnce {
	case "spec":
		s.Rerun = "on-change"
	case "boot":
		s.Rerun = "on-boot"
	}
	for _, text := range s.Security.OldDevices {
		name, access, _ := strings.Cut(text, ":")
		if s.Devices == nil {
			s.Devices = map[string]Device{}
		}
		s.Devices[name] = Device{Access: access}
	}
	s.OldRunOnce, s.Security.OldDevices = "", nil
}

// fillDefaults sets each zero field that has a default in its tag, in a struct and in
// the structs below it.
func fillDefaults(v reflect.Value) {
	s := shapeOf(v.Type())
	if s == nil {
		return
	}
	for _, f := range s.fields {
		field := v.Field(f.index)
		if f.defaultText != "" && field.IsZero() && (f.requires == "" || !v.Field(s.field(f.requires).index).IsZero()) {
			setDefault(field, f)
		}
		switch field.Kind() {
		case reflect.Struct:
			fillDefaults(field)
		case reflect.Pointer:
			if !field.IsNil() {
				fillDefaults(field.Elem())
			}
		case reflect.Map:
			if shapeOf(field.Type().Elem()) == nil {
				continue
			}
			for _, key := range field.MapKeys() {
				item := reflect.New(field.Type().Elem()).Elem()
				item.Set(field.MapIndex(key))
				fillDefaults(item)
				field.SetMapIndex(key, item)
			}
		}
	}
}

// setDefault sets v to the default of its field.
func setDefault(v reflect.Value, f shapeField) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if err := setText(v, f.defaultText); err != nil {
		panic(fmt.Sprintf("default %q of %s: %v", f.defaultText, f.name, err)) // a mistake in types.go, which every test would show
	}
}

// normalise gives all manifests of one meaning the same form, so that rewriting a
// manifest without changing its meaning is no change.
func normalise(c *Container) {
	s := &c.Spec
	c.Metadata.Labels = nilIfEmpty(c.Metadata.Labels)
	c.Metadata.Annotations = nilIfEmpty(c.Metadata.Annotations)
	s.Env, s.Ulimits, s.Sysctls = nilIfEmpty(s.Env), nilIfEmpty(s.Ulimits), nilIfEmpty(s.Sysctls)
	s.Mounts, s.Devices, s.Files = nilIfEmpty(s.Mounts), nilIfEmpty(s.Devices), nilIfEmpty(s.Files)
	s.EnvFiles, s.EnvSecrets = nilIfEmpty(s.EnvFiles), nilIfEmpty(s.EnvSecrets)
	if len(s.Command) == 0 {
		s.Command = nil
	}
	if len(s.Args) == 0 {
		s.Args = nil
	}
	if s.Backup != nil && len(s.Backup.Include) > 0 {
		s.Backup.Include = sortUnique(s.Backup.Include)
	}
	s.Hosts, s.Groups = sortUnique(s.Hosts), sortUnique(s.Groups)
	caps := &s.Security.Capabilities
	caps.Add, caps.Drop = sortCapabilities(caps.Add), sortCapabilities(caps.Drop)
	for name, device := range s.Devices {
		if device.Source == name {
			device.Source = ""
			s.Devices[name] = device
		}
	}
	if s.Resources.IO != nil && s.Resources.IO.Weight == nil {
		s.Resources.IO = nil
	}
	if cpus, err := parseCpuset(s.Resources.Cpuset); err == nil {
		s.Resources.Cpuset = printCpuset(cpus)
	}
}

// nilIfEmpty returns m, or nil if m is empty.
func nilIfEmpty[V any](m map[string]V) map[string]V {
	if len(m) == 0 {
		return nil
	}
	return m
}

// sortUnique sorts a list and removes duplicates; an empty list becomes nil.
func sortUnique[S ~string](list []S) []S {
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// sortCapabilities removes CAP_ from the names, sorts them and removes duplicates. ALL
// stands for all others.
func sortCapabilities(names []string) []string {
	for i, name := range names {
		names[i] = strings.TrimPrefix(name, "CAP_")
	}
	if slices.Contains(names, "ALL") {
		return []string{"ALL"}
	}
	return sortUnique(names)
}

// cpuRange is a range of CPU numbers, including both ends.
type cpuRange struct{ first, last int }

// maxCPU is the highest CPU number that any kernel is built for.
const maxCPU = 8191

// parseCpuset reads a list such as 0-1,4. An empty text gives no ranges.
func parseCpuset(text string) ([]cpuRange, error) {
	if text == "" {
		return nil, nil
	}
	var ranges []cpuRange
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		first, err := parseWhole(low)
		last, err2 := parseWhole(high)
		if err != nil || err2 != nil || first < 0 || last < first || last > maxCPU {
			return nil, fmt.Errorf("want CPU numbers such as 0-1,4")
		}
		ranges = append(ranges, cpuRange{int(first), int(last)})
	}
	return ranges, nil
}

// printCpuset writes ranges sorted and merged.
func printCpuset(ranges []cpuRange) string {
	slices.SortFunc(ranges, func(a, b cpuRange) int { return a.first - b.first })
	var parts []string
	for i := 0; i < len(ranges); {
		r := ranges[i]
		for i++; i < len(ranges) && ranges[i].first <= r.last+1; i++ {
			r.last = max(r.last, ranges[i].last)
		}
		part := strconv.Itoa(r.first)
		if r.last > r.first {
			part += "-" + strconv.Itoa(r.last)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}
