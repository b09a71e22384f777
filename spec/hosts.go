package spec

import (
	"path"
	"strconv"
	"strings"
)

// MatchHost tells whether the patterns of spec.hosts mean a host. One that holds
// a dot is held against the whole name, which then must have a domain; any other
// against the part before the first dot. Those with a ! take hosts out again,
// wherever they stand; with nothing but those, all other hosts are meant. Case
// does not count. No patterns mean every host.
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

// ShortHost is a host's name without its domain.
func ShortHost(host string) string {
	short, _, _ := strings.Cut(host, ".")
	return short
}

func (d *decoder) checkHosts(patterns []string) {
	if patterns != nil && len(patterns) == 0 {
		d.errorFor("spec.hosts", "found an empty list, want at least one pattern; every host is the absence of the line")
	}
	for i, pattern := range patterns {
		glob := strings.TrimPrefix(pattern, "!")
		if _, err := path.Match(glob, ""); err != nil || glob == "" || !hasOnly(glob, "-.*?[]^") {
			d.errorFor("spec.hosts["+strconv.Itoa(i)+"]", "found %s, want a host's name or a pattern such as web-*, db-[0-9] or !web-9", quote(pattern))
		}
	}
}
