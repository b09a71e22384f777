package spec

import (
	"errors"
	"reflect"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// scalar reads a single value.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode {
		d.mismatch(n, v.Type(), path)
		return
	}
	if !accepts(v.Type(), n) {
		d.mismatch(n, v.Type(), path)
		return
	}
	if err := setText(v, n.Value); err != nil {
		d.at(n, path, "found %s: %s", found(n), err)
	}
}

// accepts says whether a scalar is of a kind that the type takes. Quantities
// take numbers too, and Text keeps a number's text.
func accepts(t reflect.Type, n *yaml.Node) bool {
	tag := n.ShortTag()
	number := tag == "!!int" || tag == "!!float"
	switch {
	case t == bytesType, t == cpuType, t == durationType, t == textType, t == limitType:
		return isText(n) || number
	case t.Kind() == reflect.Bool:
		return tag == "!!bool"
	case t.Kind() == reflect.Int64:
		return tag == "!!int"
	}
	return isText(n)
}

// setText sets a scalar from its written form. The error says what is wanted.
func setText(v reflect.Value, s string) error {
	var n int64
	var err error
	switch t := v.Type(); {
	case t == bytesType:
		var b Bytes
		b, err = ParseBytes(s)
		n = int64(b)
	case t == cpuType:
		var c CPU
		c, err = ParseCPU(s)
		n = int64(c)
	case t == durationType:
		var span Duration
		span, err = ParseDuration(s)
		n = int64(span)
	case t == limitType:
		var l Limit
		l, err = ParseLimit(s)
		n = int64(l)
	case t.Kind() == reflect.Int64:
		n, err = parseWhole(s)
	case t.Kind() == reflect.Bool:
		v.SetBool(strings.EqualFold(s, "true"))
		return nil
	default:
		if strings.IndexByte(s, 0) >= 0 {
			return errors.New("holds a NUL character")
		}
		v.SetString(s)
		return nil
	}
	v.SetInt(n)
	return err
}

// parseWhole reads a whole number in plain decimal digits.
func parseWhole(s string) (int64, error) {
	digits := strings.TrimPrefix(s, "-")
	if all, rest := splitNumber(digits); all == "" || rest != "" || len(all) > 1 && all[0] == '0' {
		return 0, errors.New("want a whole number in plain decimal digits, without leading zeros")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, errors.New("too large")
	}
	return n, nil
}

// isText says whether a scalar is text. A plain date is: YAML 1.2 knows no
// timestamps, yaml.v3 still does. So is a plain << or = that is no key.
func isText(n *yaml.Node) bool {
	switch n.ShortTag() {
	case "!!str", "!!timestamp", "!!merge":
		return true
	}
	return false
}
