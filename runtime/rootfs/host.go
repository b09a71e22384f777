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
	"strconv"
	"strings"
)

// systemIDs is the first id of ordinary users. A host root gets the users and groups of the
// host with lower ids, and nobody and nogroup.
const systemIDs = 1000

// MakeHost creates the private part of a host root at dir unless it exists: the links into
// /usr, empty /var, /tmp, /run, /root and /home, and a new /etc with the host's system users
// but without its configuration, keys or shadow files. The root appears completely or
// not at all. Its files belong to root on disk.
func MakeHost(dir, hostname string) error {
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	tmp := dir + "~"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("make host root: %w", err)
	}
	if err := fillHost(tmp, hostname); err != nil {
		return fmt.Errorf("make host root: %w", errors.Join(err, os.RemoveAll(tmp)))
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("make host root: %w", err)
	}
	return nil
}

func fillHost(dir, hostname string) error {
	modes := map[string]fs.FileMode{"tmp": 0o777 | fs.ModeSticky, "var/tmp": 0o777 | fs.ModeSticky, "root": 0o700}
	for _, d := range []string{".", "usr", "etc", "proc", "sys", "dev", "run", "root", "home", "tmp", "var", "var/tmp", "var/lib", "var/log", "var/cache", "mnt", "srv", "opt"} {
		path := filepath.Join(dir, d)
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		if m, ok := modes[d]; ok {
			if err := os.Chmod(path, m); err != nil { // the umask changes the mode of mkdir
				return err
			}
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
	return fillEtc(filepath.Join(dir, "etc"), hostname)
}

func fillEtc(etc, hostname string) error {
	files := map[string]string{
		"passwd":        systemEntries("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"),
		"group":         systemEntries("/etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
		"hosts":         "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + hostname + "\n",
		"hostname":      hostname + "\n",
		"shells":        "/bin/sh\n/bin/bash\n",
	}
	for _, name := range []string{"resolv.conf", "services", "protocols", "os-release", "debian_version", "mime.types"} {
		if b, err := os.ReadFile("/etc/" + name); err == nil {
			files[name] = string(b)
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(etc, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.Symlink("/proc/self/mounts", filepath.Join(etc, "mtab")); err != nil {
		return err
	}
	if zone, err := os.Readlink("/etc/localtime"); err == nil {
		return os.Symlink(zone, filepath.Join(etc, "localtime"))
	}
	return nil
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
