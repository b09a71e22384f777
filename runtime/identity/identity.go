// Package identity makes what must not be the same in two systems anew in a copied root: the
// machine-id, and the host keys of an SSH server. It knows nothing of containers.
//
// What the root holds is hostile: all is opened below it (os.Root), and only regular files are
// replaced.
package identity

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Renew replaces the identity in a root that nobody uses, and returns the files that it replaced or
// deleted, as paths of the root.
func Renew(dir string) (changed []string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var id [16]byte
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a random UUID, as machine-id(5) wants it
	text := []byte(hex.EncodeToString(id[:]) + "\n")
	for _, name := range []string{"etc/machine-id", "var/lib/dbus/machine-id"} {
		if st := regular(root, name); st == nil || st.Size() == 0 { // an empty one is filled at boot
			continue
		}
		if err := replace(root, name, text); err != nil {
			return changed, err
		}
		changed = append(changed, "/"+name)
	}
	keys, err := renewKeys(root)
	return append(changed, keys...), err
}

// regular returns the state of a regular file, nil for anything else.
func regular(root *os.Root, name string) fs.FileInfo {
	st, err := root.Lstat(name)
	if err != nil || !st.Mode().IsRegular() {
		return nil
	}
	return st
}

// replace replaces the content of a file. Owner and mode stay.
func replace(root *os.Root, name string, content []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

const sshDir = "etc/ssh"

// renewKeys replaces the host keys. A kind of key that is not made any more is deleted: the server
// does without.
func renewKeys(root *os.Root) (changed []string, err error) {
	dir, err := root.Open(sshDir)
	if err != nil {
		return nil, nil // there is no server
	}
	names, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		kind, ok := strings.CutPrefix(name, "ssh_host_")
		kind, isKey := strings.CutSuffix(kind, "_key")
		file := path.Join(sshDir, name)
		if !ok || !isKey || regular(root, file) == nil {
			continue
		}
		private, public, err := newKey(kind)
		if err == nil && private == nil {
			err = errors.Join(root.Remove(file), ignoreMissing(root.Remove(file+".pub")))
		} else if err == nil {
			err = replace(root, file, private)
			if err == nil && regular(root, file+".pub") != nil {
				err = replace(root, file+".pub", public)
			}
		}
		if err != nil {
			return changed, fmt.Errorf("make %s anew: %w", file, err)
		}
		changed = append(changed, "/"+file)
	}
	return changed, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
