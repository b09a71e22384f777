package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a number of bytes, written as a number or with Ki, Mi, Gi, Ti.
type Bytes int64

// CPU is an amount of CPU in thousandths of a core, written `0.5` or `500m`.
type CPU int64

// Duration is a span of time, written as in Go (`1m30s`) or with d for days.
type Duration time.Duration

// Text is a string that may be written as a number; it keeps the text of the number.
type Text string

// Later is the type of a field that the language knows and this version does not support.
// Such a field is refused with "not supported yet".
type Later struct{}

// The values that each scalar accepts, in the words of the errors and the reference.
const (
	wantBytes    = "a size such as 256Mi"
	wantCPU      = "cores such as 0.5 or 500m"
	wantDuration = "a duration such as 10s, 1m30s or 2d"
	wantLimit    = "a number or unlimited"
	wantUlimit   = "a number, unlimited, or {soft: 1024, hard: 65536}"
)

const day = 24 * time.Hour

// unitSuffixes are the suffixes of sizes, the largest first.
const unitSuffixes = "TGMK"

// ParseBytes reads a size. It refuses fractions, so that a size is always exact, and
// suffixes that mean different things in different tools.
func ParseBytes(s string) (Bytes, error) {
	digits, suffix := splitNumber(s)
	if digits == "" {
		if strings.HasPrefix(s, "-") {
			return 0, errors.New("want 0 or more")
		}
		return 0, errors.New("want " + wantBytes)
	}
	shift := 0
	switch suffix {
	case "":
	case "Ki":
		shift = 10
	case "Mi":
		shift = 20
	case "Gi":
		shift = 30
	case "Ti":
		shift = 40
	default:
		return 0, sizeSuffixError(digits, suffix)
	}
	if len(digits) > 1 && digits[0] == '0' {
		return 0, errors.New("want " + wantBytes + ", without leading zeros")
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, errors.New("too large")
	}
	return Bytes(n << shift), nil
}

// sizeSuffixError returns the error for an unknown suffix.
func sizeSuffixError(digits, suffix string) error {
	if strings.HasPrefix(suffix, ".") {
		return errors.New("want a whole number with Ki, Mi, Gi or Ti: 1536Mi, not 1.5Gi")
	}
	letter := strings.ToUpper(suffix[:1])
	switch strings.ToLower(suffix[1:]) {
	case "", "b", "i", "ib":
		if strings.Contains(unitSuffixes, letter) {
			return fmt.Errorf("%s means different things in different tools; write %s%si (1024-based)", quote(suffix), shorten(digits, 20), letter)
		}
		if letter == "B" && len(suffix) == 1 {
			return fmt.Errorf("want %s; plain bytes have no suffix: %s", wantBytes, shorten(digits, 20))
		}
	}
	return fmt.Errorf("want %s (plain bytes, Ki, Mi, Gi or Ti)", wantBytes)
}

// String formats the size with the largest suffix that keeps it exact.
func (b Bytes) String() string {
	if b == 0 {
		return "0"
	}
	for i, letter := range unitSuffixes {
		shift := 40 - 10*i
		if b&(1<<shift-1) == 0 {
			return strconv.FormatInt(int64(b>>shift), 10) + string(letter) + "i"
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText returns the written form, for YAML.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// MarshalJSON returns the number of bytes, so that readers of JSON need no parser.
func (b Bytes) MarshalJSON() ([]byte, error) { return strconv.AppendInt(nil, int64(b), 10), nil }

// UnmarshalJSON accepts a number of bytes or the written form.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	text := string(data)
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	return b.UnmarshalText([]byte(text))
}

// UnmarshalText reads the written form.
func (b *Bytes) UnmarshalText(data []byte) (err error) {
	if *b, err = ParseBytes(string(data)); err != nil {
		err = fmt.Errorf("parse size %s: %w", quote(string(data)), err)
	}
	return err
}

// ParseCPU reads an amount of CPU. The smallest unit is a thousandth of a core.
func ParseCPU(s string) (CPU, error) {
	digits, rest := splitNumber(s)
	if strings.HasPrefix(s, "-") {
		return 0, errors.New("want 0 or more")
	}
	if digits == "" || len(digits) > 1 && digits[0] == '0' {
		return 0, errors.New("want " + wantCPU)
	}
	if strings.HasSuffix(rest, "%") {
		return 0, errors.New("want " + wantCPU + "; half of one core is 500m, not 50%")
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || rest != "m" && n > math.MaxInt64/1000 {
		return 0, errors.New("too large")
	}
	if rest == "m" {
		return CPU(n), nil
	}
	millis := int64(0)
	if rest != "" {
		fraction, tail := splitNumber(strings.TrimPrefix(rest, "."))
		if rest[0] != '.' || fraction == "" || tail != "" {
			return 0, errors.New("want " + wantCPU)
		}
		if len(fraction) > 3 {
			return 0, errors.New("want " + wantCPU + "; the finest is 0.001 (1m)")
		}
		millis, _ = strconv.ParseInt((fraction + "00")[:3], 10, 64)
	}
	if n > (math.MaxInt64-millis)/1000 {
		return 0, errors.New("too large")
	}
	return CPU(n*1000 + millis), nil
}

// String formats whole cores as a number and anything else in thousandths.
func (c CPU) String() string {
	if c%1000 == 0 {
		return strconv.FormatInt(int64(c/1000), 10)
	}
	return strconv.FormatInt(int64(c), 10) + "m"
}

// MarshalText returns the written form, for YAML and JSON.
func (c CPU) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads the written form.
func (c *CPU) UnmarshalText(data []byte) (err error) {
	if *c, err = ParseCPU(string(data)); err != nil {
		err = fmt.Errorf("parse CPU %s: %w", quote(string(data)), err)
	}
	return err
}

// ParseDuration reads a duration as time.ParseDuration does, without a sign, optionally
// with whole days in front: `1d12h`.
func ParseDuration(s string) (Duration, error) {
	if s == "0" {
		return 0, nil
	}
	digits, rest := splitNumber(s)
	if digits == "" {
		if strings.HasPrefix(s, "-") {
			return 0, errors.New("want 0 or more")
		}
		return 0, errors.New("want " + wantDuration)
	}
	if rest == "" {
		return 0, fmt.Errorf("a unit is missing; want %s: %ss?", wantDuration, shorten(digits, 20))
	}
	var span time.Duration
	if strings.HasPrefix(rest, "d") {
		days, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || days > int64(math.MaxInt64/day) {
			return 0, errors.New("too large")
		}
		span, s = time.Duration(days)*day, rest[1:]
		if s == "" {
			return Duration(span), nil
		}
	}
	if s[0] < '0' || s[0] > '9' {
		return 0, errors.New("want " + wantDuration)
	}
	more, err := time.ParseDuration(s)
	if err != nil {
		return 0, errors.New("want " + wantDuration)
	}
	if more > math.MaxInt64-span {
		return 0, errors.New("too large")
	}
	return Duration(span + more), nil
}

// String formats the span without parts that are zero: 1d12h, 5m, 1.5s.
func (d Duration) String() string {
	span := time.Duration(d)
	if span == 0 {
		return "0"
	}
	out := ""
	if span >= day {
		out = strconv.FormatInt(int64(span/day), 10) + "d"
		if span %= day; span == 0 {
			return out
		}
	}
	text := span.String() // "1h0m0s"
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return out + text
}

// MarshalText returns the written form, for YAML and JSON.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the written form.
func (d *Duration) UnmarshalText(data []byte) (err error) {
	if *d, err = ParseDuration(string(data)); err != nil {
		err = fmt.Errorf("parse duration %s: %w", quote(string(data)), err)
	}
	return err
}

// splitNumber splits s after its leading decimal digits.
func splitNumber(s string) (digits, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}
