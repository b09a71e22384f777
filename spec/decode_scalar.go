package spec

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// decodeScalar reads a scalar into v.
func (d *decoder) decodeScalar(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.ScalarNode || !acceptsScalar(v.Type(), n) {
		d.reportMismatch(n, v.Type(), path)
		return
	}
	if err := setText(v, n.Value); err != nil {
		d.errorAt(n, path, "found %s: %s", describeNode(n), err)
	}
}

// acceptsScalar reports whether the kind of a scalar fits the type. Quantities accept
// numbers too, and Text keeps the text of a number.
func acceptsScalar(t reflect.Type, n *yaml.Node) bool {
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

// setText sets v from its written form. The error says which form is wanted.
func setText(v reflect.Value, s string) error {
	var err error
	switch p := v.Addr().Interface().(type) {
	case *Bytes:
		*p, err = ParseBytes(s)
	case *CPU:
		*p, err = ParseCPU(s)
	case *Duration:
		*p, err = ParseDuration(s)
	case *Limit:
		*p, err = ParseLimit(s)
	case *int64:
		*p, err = parseWhole(s)
	case *bool:
		*p = strings.EqualFold(s, "true")
	default:
		if strings.IndexByte(s, 0) >= 0 {
			return errors.New("holds a NUL character")
		}
		v.SetString(s)
	}
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

// isText reports whether a scalar is text. A plain date is text, since YAML 1.2 has no
// timestamps (yaml.v3 still has), and so is a plain << or = that is not a key.
func isText(n *yaml.Node) bool {
	return slices.Contains([]string{"!!str", "!!timestamp", "!!merge"}, n.ShortTag())
}
