package spec

import (
	"path"
	"strconv"
	"strings"
)

// MatchHost reports whether the patterns of spec.hosts match a host. A pattern with a
// dot is matched against the full name, any other pattern against the part before the
// first dot. A pattern with a ! excludes hosts, in any order; if all patterns have a !,
// all other hosts match. Case does not matter. Without patterns every host matches.
func MatchHost(patterns []string, host string) bool {
	host = strings.ToLower(host)
	wanted, positive := false, false
	for _, pattern := range patterns {
		pattern, not := strings.CutPrefix(strings.ToLower(pattern), "!")
		name := host
		if !strings.Contains(pattern, ".") {
			name = ShortHost(host)
		}
		matched, _ := path.Match(pattern, name)
		switch {
		case not && matched:
			return false
		case !not:
			positive = true
			wanted = wanted || matched
		}
	}
	return wanted || !positive
}

// ShortHost returns the name of a host without its domain.
func ShortHost(host string) string {
	short, _, _ := strings.Cut(host, ".")
	return short
}

func (d *decoder) checkHosts(patterns []string) {
	if patterns != nil && len(patterns) == 0 {
		d.errorFor("spec.hosts", "found an empty list, want at least one pattern; for every host remove the line")
	}
	for i, pattern := range patterns {
		glob := strings.TrimPrefix(pattern, "!")
		if _, err := path.Match(glob, ""); err != nil || glob == "" || !hasOnly(glob, "-.*?[]^") {
			d.errorFor("spec.hosts["+strconv.Itoa(i)+"]", "found %s, want a host's name or a pattern such as web-*, db-[0-9] or !web-9", quote(pattern))
		}
	}
}
