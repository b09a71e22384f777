package launch

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// attachProcAndSys attaches the child's proc and a sysfs, and masks parts of them.
func (b *startJob) attachProcAndSys() error {
	kernel, err := b.expect('f')
	if err != nil {
		return err
	}
	b.opened = append(b.opened, kernel...)
	if len(kernel) != 1 {
		return fmt.Errorf("receive proc: %w", unix.EPROTO)
	}
	of := noNetworkSys
	if b.c.HostNetwork {
		of = "/sys"
	}
	sys, err := copyMount(unix.AT_FDCWD, of, unix.MOUNT_ATTR_RDONLY, -1)
	if err != nil {
		return err
	}
	b.opened = append(b.opened, sys)
	kernel = append(kernel, sys)
	for i, name := range []string{"proc", "sys"} {
		at, err := b.openKernelTarget(name)
		if err != nil {
			return err
		}
		err = moveMount(kernel[i], at)
		unix.Close(at)
		if err != nil {
			return fmt.Errorf("attach /%s: %w", name, err)
		}
		b.visibleMount = append(b.visibleMount, visibleMount{target: name, mount: kernel[i]})
	}
	if at, err := b.openKernelTarget("dev"); err != nil { // the child mounts it
		return err
	} else {
		unix.Close(at)
	}
	b.weaken(kernel)
	return errors.Join(b.mask(kernel[0], maskedProc), b.mask(kernel[1], maskedSys), protect(kernel[0], readOnlyProc))
}

// Test builds replace kernelTargetResolve and coverTree with the flawed ways of other
// runtimes.
var (
	kernelTargetResolve = func() uint64 { return unix.RESOLVE_NO_SYMLINKS }
	coverTree           = func(_ *startJob, cover string) (int, error) { return copyMount(unix.AT_FDCWD, cover, 0, -1) }
)

// openKernelTarget opens /proc, /sys or /dev of the root. It must be a directory, not a link,
// and is created if missing.
func (b *startJob) openKernelTarget(name string) (int, error) {
	resolve := kernelTargetResolve()
	at, err := openBeneath(b.rootFD, name, resolve)
	if err == unix.ENOENT {
		err = asContainer(b.c.IDBase, func() error { return unix.Mkdirat(b.rootFD, name, 0o755) })
		if err == nil || errors.Is(err, unix.EEXIST) { // another start in this root may have created it first
			at, err = openBeneath(b.rootFD, name, resolve)
		}
	}
	var st unix.Stat_t
	if err == nil {
		if err = unix.Fstat(at, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return at, nil
		}
		unix.Close(at)
		err = errors.Join(err, unix.ENOTDIR)
	}
	e := &Error{AtRoot, "find /" + name + " in the root", errnoOf(err), ""}
	if e.Errno == unix.ELOOP {
		e.Hint = "a symbolic link: it must be a directory"
	}
	return -1, e
}

// mask hides paths below base: directories behind an empty one, files behind /dev/null. It
// skips missing paths, which depend on the kernel's build.
func (b *startJob) mask(base int, names []string) error {
	return eachBelow(base, names, func(at int, mode uint32) (int, error) {
		cover := "/dev/null"
		if mode&unix.S_IFMT == unix.S_IFDIR {
			cover = "/empty"
		}
		return coverTree(b, cover)
	})
}

func protect(base int, names []string) error {
	return eachBelow(base, names, func(at int, _ uint32) (int, error) {
		return copyMount(at, "", unix.MOUNT_ATTR_RDONLY, -1)
	})
}

func eachBelow(base int, names []string, cover func(at int, mode uint32) (int, error)) error {
	for _, name := range names {
		at, err := openBeneath(base, name, unix.RESOLVE_NO_SYMLINKS)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return fmt.Errorf("find %s to protect: %w", name, err)
		}
		var st unix.Stat_t
		err = unix.Fstat(at, &st)
		var m int
		if err == nil {
			m, err = cover(at, st.Mode)
		}
		if err == nil {
			err = moveMount(m, at)
			unix.Close(m)
		}
		unix.Close(at)
		if err != nil {
			return fmt.Errorf("protect %s: %w", name, err)
		}
	}
	return nil
}
