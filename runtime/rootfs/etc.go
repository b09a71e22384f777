package rootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"stead/runtime/atomicfile"

	"golang.org/x/sys/unix"
)

// copiedFiles are the files of the host's /etc that a host root has a copy of.
var copiedFiles = []string{"resolv.conf", "services", "protocols", "os-release", "debian_version", "mime.types"}

// madeFiles are the files of a host root's /etc that are made for it.
var madeFiles = []string{"passwd", "group", "nsswitch.conf", "shells", "hosts", "hostname"}

// hostSources are the files of the host that the /etc of a host root is made from, names aside.
var hostSources = append([]string{"passwd", "group", "localtime"}, copiedFiles...)

// HostEtc is what a host root's /etc gets from this host. It reads the host's files again
// when they changed. Its methods may be called concurrently.
type HostEtc struct {
	mu     sync.Mutex        // guards what follows
	stamps []unix.Stat_t     // of hostSources when they were read
	files  map[string]string // by name: linkMark and a target, or the text of a file
}

// linkMark begins the entry of a symbolic link. No text file begins so.
const linkMark = "\x00link "

// from returns the current files, without those of Names.
func (h *HostEtc) from(etc string) map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	stamps := make([]unix.Stat_t, len(hostSources))
	for i, name := range hostSources {
		_ = unix.Lstat(filepath.Join(etc, name), &stamps[i])
		if stamps[i].Mode&unix.S_IFMT == unix.S_IFLNK && name != "localtime" { // as /etc/resolv.conf often is
			_ = unix.Stat(filepath.Join(etc, name), &stamps[i])
		}
		stamps[i].Atim = unix.Timespec{}
	}
	if h.files != nil && slices.Equal(stamps, h.stamps) {
		return h.files
	}
	h.stamps, h.files = stamps, hostFiles(etc)
	return h.files
}

// maxEtcFile is the most that is read of a file of /etc, in bytes.
const maxEtcFile = 1 << 20

// hostFiles reads what a host root has from an /etc of the host: system users without their
// passwords, and what is no configuration, key or secret of the host.
func hostFiles(etc string) map[string]string {
	files := map[string]string{
		"passwd":        systemEntries(etc+"/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"),
		"group":         systemEntries(etc+"/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
		"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
		"shells":        "/bin/sh\n/bin/bash\n",
	}
	copied := copiedFiles
	if zone, err := os.Readlink(etc + "/localtime"); err == nil {
		files["localtime"] = linkMark + zone
	} else {
		copied = append(slices.Clone(copied), "localtime")
	}
	for _, name := range copied {
		if b, err := readSmall(filepath.Join(etc, name)); err == nil && len(b) > 0 {
			files[name] = string(b)
		}
	}
	return files
}

func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEtcFile+1))
	if err == nil && len(b) > maxEtcFile {
		err = fmt.Errorf("read %s: larger than %d bytes", name, maxEtcFile)
	}
	return b, err
}

// etcRecord is what stead has written into the /etc of a host root. It lies outside of the
// root, out of the container's reach.
type etcRecord struct {
	Wanted string              `json:"wanted"` // fingerprint of all files at the last update
	Files  map[string][]string `json:"files"`  // by name, fingerprints of what stead wrote; several if it was interrupted
}

const etcFile, namesFile = "etc.json", "names.json"

// EtcRecords are the files beside a host root that remember what stead wrote into its /etc. They
// belong to that one root: with another they would say that the container deleted its files.
var EtcRecords = []string{etcFile, namesFile}

// Update makes the /etc of the host root at dir follow the host and names, except for what the
// container changed or deleted itself. EtcRecords beside the root remember what stead wrote.
// Without a host name, names stay as they are.
func (h *HostEtc) Update(dir string, names Names) error { return h.update(dir, names, updateEtc) }

func (h *HostEtc) update(dir string, names Names, update func(dir, record string, want map[string]string) error) error {
	beside := filepath.Dir(dir)
	err := update(dir, filepath.Join(beside, etcFile), h.from("/etc"))
	if err == nil && names.Hostname != "" {
		err = update(dir, filepath.Join(beside, namesFile), map[string]string{"hosts": names.Hosts(), "hostname": names.Hostname + "\n"})
	}
	return err
}

// fillEtc fills the /etc of a new host root, which nobody else sees yet, and records it. It
// leaves writing the files to the disk to its caller.
func fillEtc(dir, record string, want map[string]string) error {
	etc, err := os.OpenRoot(filepath.Join(dir, "etc"))
	if err != nil {
		return err
	}
	defer etc.Close()
	r := etcRecord{Wanted: fingerprintAll(want), Files: map[string][]string{}}
	for name, text := range want {
		if err := replaceIn(etc, name, text); err != nil {
			return fmt.Errorf("write etc/%s of host root: %w", name, err)
		}
		r.Files[name] = []string{fingerprint(text)}
	}
	return writeEtcRecord(record, r)
}

func updateEtc(dir, record string, want map[string]string) error {
	last := etcRecord{}
	if b, err := os.ReadFile(record); err == nil {
		if err := json.Unmarshal(b, &last); err != nil {
			return fmt.Errorf("read %s: %w", record, err)
		}
	}
	all := fingerprintAll(want)
	if last.Wanted == all {
		return nil // what the container changed since stays changed
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open host root: %w", err)
	}
	defer root.Close()
	etc, err := root.OpenRoot("etc")
	if err != nil {
		return ignoreMissing(err) // the container has removed it
	}
	defer etc.Close()
	var due []string
	next := etcRecord{Wanted: all, Files: map[string][]string{}}
	for name := range allNames(want, last.Files) {
		own := last.Files[name]
		have, err := fingerprintOf(etc, name)
		if err != nil {
			return fmt.Errorf("read etc/%s of host root: %w", name, err)
		}
		text, wanted := want[name]
		switch {
		case wanted && have == fingerprint(text):
			next.Files[name] = []string{have}
		case have == "" && own == nil && wanted, have != "" && slices.Contains(own, have):
			due = append(due, name)
			next.Files[name] = own
			if wanted {
				next.Files[name] = append(slices.Clone(own), fingerprint(text))
			}
		case own != nil:
			next.Files[name] = own // the container's own now
		}
	}
	// First the record: if this process dies, what it wrote is known as its own.
	interrupted := next
	interrupted.Wanted, interrupted.Files = "", maps.Clone(next.Files)
	for _, name := range due { // a power cut may leave it empty
		interrupted.Files[name] = append(slices.Clone(next.Files[name]), fingerprint(""))
	}
	if err := writeEtcRecord(record, interrupted); err != nil {
		return err
	}
	for _, name := range due {
		if err := replaceIn(etc, name, want[name]); err != nil {
			return fmt.Errorf("update etc/%s of host root: %w", name, err)
		}
	}
	// Else a power cut leaves empty files, which would look like the container's own.
	if err := syncIn(etc, due); err != nil {
		return fmt.Errorf("update etc of host root: %w", err)
	}
	return writeEtcRecord(record, next)
}

// syncIn writes files of a directory, and the directory, to the disk. It has the disk begin with
// all of them before it waits for any: on most file systems they then share one commit.
func syncIn(dir *os.Root, names []string) error {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, name := range append(slices.Clone(names), ".") {
		if st, err := dir.Lstat(name); err != nil || !st.Mode().IsRegular() && name != "." {
			continue // a link, or one that was removed
		}
		f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		files = append(files, f)
		_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) // only for speed
	}
	for _, f := range files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return nil
}

func allNames(want map[string]string, files map[string][]string) map[string]bool {
	names := map[string]bool{}
	for name := range want {
		names[name] = true
	}
	for name := range files {
		names[name] = true
	}
	return names
}

func writeEtcRecord(file string, r etcRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	err = atomicfile.Write(file, append(b, '\n'))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return nil // on a full disk a container is started all the same; the next start updates
	}
	return err
}

func fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

func fingerprintAll(files map[string]string) string {
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&all, "%s %s\n", name, fingerprint(files[name]))
	}
	return fingerprint(all.String())
}

// fingerprintOf returns the fingerprint of a file in a hostile directory: "" if there is none,
// "other" if it is nothing that stead writes.
func fingerprintOf(dir *os.Root, name string) (string, error) {
	st, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case st.Mode().Type() == fs.ModeSymlink:
		target, err := dir.Readlink(name)
		return fingerprint(linkMark + target), err
	case !st.Mode().IsRegular() || st.Size() > maxEtcFile:
		return "other", nil
	}
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEtcFile))
	return fingerprint(string(b)), err
}

// replaceIn replaces a file in a hostile directory; text "" removes it. Mode and owner that the
// container gave to the file stay.
func replaceIn(dir *os.Root, name, text string) error {
	if text == "" {
		return ignoreMissing(dir.Remove(name))
	}
	tmp := name + ".stead~"
	if err := ignoreMissing(dir.RemoveAll(tmp)); err != nil {
		return err
	}
	if target, link := strings.CutPrefix(text, linkMark); link {
		if err := dir.Symlink(target, tmp); err != nil {
			return err
		}
		return dir.Rename(tmp, name)
	}
	f, err := dir.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	mode := fs.FileMode(0o644)
	if st, e := dir.Lstat(name); e == nil && st.Mode().IsRegular() {
		mode = st.Mode().Perm()
		sys := st.Sys().(*syscall.Stat_t)
		err = errors.Join(err, f.Chown(int(sys.Uid), int(sys.Gid)))
	}
	err = errors.Join(err, f.Chmod(mode), f.Close())
	if err == nil {
		err = dir.Rename(tmp, name)
	}
	if err != nil {
		err = errors.Join(err, dir.Remove(tmp))
	}
	return err
}
