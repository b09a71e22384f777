// Package rootfs creates, reads and deletes container roots on disk. The container can write
// everything below its root, so the content is hostile: files are opened beneath the root,
// never by a path that a link could redirect.
package rootfs

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// systemIDs is the first id of ordinary users. A host root gets the users and groups of the
// host with lower ids, and nobody and nogroup.
const systemIDs = 1000

// Prepare creates the private part of a host root at dir unless it exists: the links into
// /usr, empty /var, /tmp, /run, /root and /home, and an /etc. The root appears completely or
// not at all. Its files belong to root on disk. The /etc of one that exists follows the host, see
// Update.
func (h *HostEtc) Prepare(dir string, names Names) error {
	if st, err := os.Lstat(dir); err == nil {
		if st.Mode().Perm() == 0o700 { // nearly never
			if err := repairModes(dir); err != nil {
				return err
			}
		}
		return h.Update(dir, names)
	}
	tmp := dir + "~"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("make host root: %w", err)
	}
	if err := fillHost(tmp); err != nil {
		return fmt.Errorf("make host root: %w", errors.Join(err, os.RemoveAll(tmp)))
	}
	for _, name := range EtcRecords { // of a root that is gone
		if err := ignoreMissing(os.Remove(filepath.Join(filepath.Dir(dir), name))); err != nil {
			return fmt.Errorf("make host root: %w", err)
		}
	}
	if err := h.update(tmp, names, fillEtc); err != nil {
		return fmt.Errorf("make host root: %w", err)
	}
	if err := syncDirs(tmp); err != nil { // else a power cut could leave a part of it, for good
		return fmt.Errorf("make host root: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("make host root: %w", err)
	}
	return nil
}

// syncDirs writes the directories of a new host root, and the files of its /etc, to the disk.
func syncDirs(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	etc, err := root.OpenRoot("etc")
	if err != nil {
		return err
	}
	defer etc.Close()
	if err := syncIn(etc, slices.Concat(madeFiles, copiedFiles, []string{"localtime"})); err != nil {
		return err
	}
	for _, name := range []string{"var", "."} { // the others are empty
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// hostDirs are the directories of a host root, parents first.
var hostDirs = []struct {
	name string
	mode fs.FileMode
}{
	{".", 0o755}, {"usr", 0o755}, {"etc", 0o755}, {"proc", 0o755}, {"sys", 0o755}, {"dev", 0o755}, {"run", 0o755}, {"root", 0o700},
	{"home", 0o755}, {"tmp", 0o777 | fs.ModeSticky}, {"var", 0o755}, {"var/tmp", 0o777 | fs.ModeSticky}, {"var/lib", 0o755},
	{"var/log", 0o755}, {"var/cache", 0o755}, {"mnt", 0o755}, {"srv", 0o755}, {"opt", 0o755},
}

func fillHost(dir string) error {
	for _, d := range hostDirs {
		path := filepath.Join(dir, d.name)
		if err := errors.Join(os.Mkdir(path, d.mode), os.Chmod(path, d.mode)); err != nil { // whatever the umask
			return err
		}
	}
	for _, l := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		if target, err := os.Readlink("/" + l); err == nil {
			if err := os.Symlink(target, filepath.Join(dir, l)); err != nil {
				return err
			}
		}
	}
	if err := os.Symlink("/run", filepath.Join(dir, "var/run")); err != nil {
		return err
	}
	return os.Symlink("/proc/self/mounts", filepath.Join(dir, "etc/mtab"))
}

// repairModes restores the modes of a host root that an earlier stead created under a strict
// umask, so that only root could enter it. Modes that the container chose stay.
func repairModes(dir string) error {
	root, err := os.OpenRoot(dir) // the content is hostile
	if err != nil {
		return fmt.Errorf("open host root: %w", err)
	}
	defer root.Close()
	for name, mode := range map[string]fs.FileMode{".": 0o700, "etc": 0o700, "var": 0o700, "etc/passwd": 0o600} {
		if st, err := root.Stat(name); err != nil || st.Mode().Perm() != mode {
			return nil
		}
	}
	var failed error
	for _, d := range hostDirs {
		failed = errors.Join(failed, ignoreMissing(root.Chmod(d.name, d.mode)))
	}
	for _, name := range append(madeFiles, copiedFiles...) {
		failed = errors.Join(failed, ignoreMissing(root.Chmod("etc/"+name, 0o644)))
	}
	return failed
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// systemEntries returns the lines of the host's passwd or group with system ids.
func systemEntries(file, fallback string) string {
	f, err := os.Open(file)
	if err != nil {
		return fallback
	}
	defer f.Close()
	var out strings.Builder
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Split(s.Text(), ":")
		if len(fields) < 4 {
			continue
		}
		if id, err := strconv.Atoi(fields[2]); err == nil && (id < systemIDs || id == 65534) {
			fields[1] = "x"
			if len(fields) == 4 {
				fields[3] = "" // the members are users of the host
			}
			out.WriteString(strings.Join(fields, ":") + "\n")
		}
	}
	return out.String()
}

// HostShares returns the directories and files of the host's /etc that a host root shows
// read-only: the programs in /usr need them, they hold no secrets, and they follow the host's
// updates.
func HostShares() []string {
	var all []string
	for _, p := range []string{"/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/pki/ca-trust/extracted"} {
		if _, err := os.Stat(p); err == nil {
			all = append(all, p)
		}
	}
	return all
}
