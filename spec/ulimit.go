package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Limit is a whole number or Unlimited.
type Limit int64

// Unlimited means no limit, written `unlimited`.
const Unlimited Limit = -1

// ParseLimit reads a whole number or `unlimited`.
func ParseLimit(s string) (Limit, error) {
	if s == "unlimited" {
		return Unlimited, nil
	}
	n, err := parseWhole(s)
	switch {
	case s == "-1" || s == "infinity":
		return 0, errors.New("want " + wantLimit + "; no limit is unlimited")
	case err != nil:
		return 0, err
	case n < 0:
		return 0, errors.New("want " + wantLimit)
	}
	return Limit(n), nil
}

// String formats the limit as in a manifest.
func (l Limit) String() string {
	if l == Unlimited {
		return "unlimited"
	}
	return strconv.FormatInt(int64(l), 10)
}

// MarshalText returns the written form, for YAML.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// MarshalJSON returns a number or "unlimited", as in a manifest.
func (l Limit) MarshalJSON() ([]byte, error) {
	if l == Unlimited {
		return []byte(`"unlimited"`), nil
	}
	return strconv.AppendInt(nil, int64(l), 10), nil
}

// UnmarshalJSON reads the output of MarshalJSON.
func (l *Limit) UnmarshalJSON(data []byte) (err error) {
	*l, err = ParseLimit(strings.Trim(string(data), `"`))
	return err
}

// String formats one value if the soft and the hard limit are equal.
func (u Ulimit) String() string {
	if u.Soft == u.Hard {
		return u.Soft.String()
	}
	return fmt.Sprintf("{soft: %s, hard: %s}", u.Soft, u.Hard)
}

// MarshalJSON returns the form of a manifest: one value if soft and hard are equal.
func (u Ulimit) MarshalJSON() ([]byte, error) {
	if u.Soft == u.Hard {
		return u.Soft.MarshalJSON()
	}
	type fields Ulimit
	return json.Marshal(fields(u))
}

// UnmarshalJSON reads the output of MarshalJSON.
func (u *Ulimit) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '{' {
		type fields Ulimit
		return json.Unmarshal(data, (*fields)(u))
	}
	if err := u.Soft.UnmarshalJSON(data); err != nil {
		return err
	}
	u.Hard = u.Soft
	return nil
}
