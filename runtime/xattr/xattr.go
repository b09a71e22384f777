// Package xattr lists the extended attributes of files.
package xattr

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// TarPrefix begins the records of extended attributes in a tar.
const TarPrefix = "SCHILY.xattr."

// MaxInTar bounds the attributes of one file in a tar, in bytes: the limit of a reader of PAX
// headers is 1 MiB.
const MaxInTar = 512 << 10

// Keeps reports whether an attribute is of a file's content, and goes with it to another place.
// Attributes in trusted are not: those of overlay are about other files of this host, and a
// container never sees the others. SELinux labels are those of this host. A tar can't hold a name
// with '='.
func Keeps(name string) bool {
	return !strings.HasPrefix(name, "trusted.") && !strings.HasPrefix(name, "user.overlay.") && name != "security.selinux" && !strings.Contains(name, "=")
}

// List returns the extended attributes of a file, by descriptor or path.
func List[F any](file F, list func(F, []byte) (int, error), get func(F, string, []byte) (int, error)) (map[string][]byte, error) {
	n, err := list(file, nil)
	if err == unix.ENOTSUP || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("listxattr", err)
	}
	names := make([]byte, n+4096)
	if n, err = list(file, names); err != nil {
		return nil, os.NewSyscallError("listxattr", err)
	}
	if n == 0 { // overlay counts attributes of its own, and then does not list them
		return nil, nil
	}
	all := map[string][]byte{}
	for name := range strings.SplitSeq(strings.Trim(string(names[:n]), "\x00"), "\x00") {
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := get(file, name, value)
		if err == unix.ENODATA || err == unix.ENOTSUP {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("getxattr "+name, err)
		}
		all[name] = slices.Clone(value[:n])
	}
	return all, nil
}
