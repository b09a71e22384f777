package backup

import (
	"archive/tar"
	"path"
	"strings"

	"stead/runtime/xattr"

	"golang.org/x/sys/unix"
)

const opaqueXattr = "trusted.overlay.opaque"

// xattrs adds the attributes of a file to a header, and reports whether it is an opaque directory
// of an overlay.
func (c *copier) xattrs(h *tar.Header, list func([]byte) (int, error), get func(string, []byte) (int, error)) (opaque bool, err error) {
	n, err := list(nil)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	names := make([]byte, 64<<10) // XATTR_LIST_MAX
	if n, err = list(names); err != nil {
		return false, err
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	total := 0
	for name := range strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		if name == opaqueXattr && c.tree.Overlay {
			n, err := get(name, value)
			opaque = err == nil && string(value[:n]) == "y"
			continue
		}
		if !xattr.Keeps(name) {
			continue
		}
		n, err := get(name, value)
		if err == unix.ENODATA { // it was removed
			continue
		}
		if err != nil {
			return false, err
		}
		if total += len(name) + n; total > xattr.MaxInTar {
			c.note(path.Clean(h.Name), "has more than %d bytes of extended attributes; the rest is not copied", xattr.MaxInTar)
			break
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[xattr.TarPrefix+name] = string(value[:n])
	}
	return opaque, nil
}
