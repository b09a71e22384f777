package rootfs

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const passwd = `root:x:0:0:root:/root:/bin/sh
app:x:1000:100:an app:/srv:/bin/sh
1001:x:0:0::/:/bin/sh
far:x:70000:1::/:/bin/sh
low:x:-1:1::/:/bin/sh
half
word:x:zero:zero::/:/bin/sh
app:x:0:0:twice:/root:/bin/sh
`

const group = `root:x:0:1001
users:x:100:app
adm:x:4:app,root
1002:x:0:
far:x:70000:app
word:x:zero:app
`

func TestLookUp(t *testing.T) {
	root := t.TempDir()
	os.Mkdir(root+"/etc", 0o755)
	os.WriteFile(root+"/etc/passwd", []byte(passwd), 0o644)
	os.WriteFile(root+"/etc/group", []byte(group), 0o644)
	for _, tt := range []struct {
		who    string
		groups []string
		want   Identity
		failed string
	}{
		{"0", nil, Identity{0, 0, []uint32{4}, "/root"}, ""},
		{"app", nil, Identity{1000, 100, []uint32{4}, "/srv"}, ""}, // the first line of that name
		{"1000", nil, Identity{1000, 100, []uint32{4}, "/srv"}, ""},
		{"1001", nil, Identity{1001, 0, nil, "/"}, ""}, // an id, whoever has it for a name
		{"app:1002", nil, Identity{1000, 1002, nil, "/srv"}, ""},
		{"app:adm", []string{"users", "7"}, Identity{1000, 4, []uint32{100, 7}, "/srv"}, ""},
		{"nobody", nil, Identity{}, "user nobody is not in the root's /etc/passwd"},
		{"app:nogroup", nil, Identity{}, "group nogroup is not in the root's /etc/group"},
		{"far", nil, Identity{}, "user far has id 70000:1 in the root's /etc/passwd, want ids of 0 to 65535"},
		{"low", nil, Identity{}, "user low is not in"},
		{"app:far", nil, Identity{}, "group far is not in"},
		{"half", nil, Identity{}, "user half is not in"},
		{"word", nil, Identity{}, "user word is not in"},
		{"app:word", nil, Identity{}, "group word is not in"},
	} {
		got, err := LookUp(root, tt.who, tt.groups)
		if tt.failed != "" {
			if err == nil || !strings.Contains(err.Error(), tt.failed) {
				t.Errorf("%s: %+v %v, want %q", tt.who, got, err, tt.failed)
			}
			continue
		}
		if err != nil || got.UID != tt.want.UID || got.GID != tt.want.GID || got.Home != tt.want.Home || !slices.Equal(got.Groups, tt.want.Groups) {
			t.Errorf("%s: %+v %v, want %+v", tt.who, got, err, tt.want)
		}
	}
}

// The files of a root are its container's to replace.
func TestHostilePasswd(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "passwd")
	os.WriteFile(secret, []byte("app:x:1000:100::/secret:/bin/sh\n"), 0o644)
	for summary, make := range map[string]func(file string) error{
		"a link out of the root": func(file string) error { return os.Symlink(secret, file) },
		"a link up out of it":    func(file string) error { return os.Symlink("../../../../../.."+secret, file) },
		"a link to a descriptor": func(file string) error { return os.Symlink("/proc/self/fd/0", file) },
		"a FIFO":                 func(file string) error { return unix.Mkfifo(file, 0o644) },
		"a directory":            func(file string) error { return os.Mkdir(file, 0o755) },
		"more than anybody has": func(file string) error {
			return os.WriteFile(file, []byte(strings.Repeat("x:x:1:1::/:\n", 400_000)), 0o644)
		},
		"a line of a megabyte":    func(file string) error { return os.WriteFile(file, []byte(strings.Repeat("x", 1<<20)+"\n"), 0o644) },
		"fields without a number": func(file string) error { return os.WriteFile(file, []byte("app:x:a:b::/:\n"), 0o644) },
		"a number that is too long": func(file string) error {
			return os.WriteFile(file, []byte("app:x:99999999999999999999:0::/:\n"), 0o644)
		},
	} {
		root := t.TempDir()
		os.Mkdir(root+"/etc", 0o755)
		if err := make(root + "/etc/passwd"); err != nil {
			t.Fatal(err)
		}
		if got, err := LookUp(root, "app", nil); err == nil || got.Home != "" {
			t.Errorf("%s: %+v %v", summary, got, err)
		}
	}
}

// FuzzLookUp: whatever a container writes into its passwd and group, an id is
// that id, a name is one that a line has, and no id leads out of the container's.
func FuzzLookUp(f *testing.F) {
	f.Add(passwd, group, "app")
	f.Add(passwd, group, "1001:users")
	f.Add("a::1:1:::\n\na:b", "g:x:1:a,b,,a\n:::", "a:g")
	f.Fuzz(func(t *testing.T, passwd, group, who string) {
		id, err := lookUp([]byte(passwd), []byte(group), who, nil)
		if err != nil {
			return
		}
		name, groupName, grouped := strings.Cut(who, ":")
		if n, e := strconv.ParseUint(name, 10, 16); e == nil && id.UID != uint32(n) {
			t.Errorf("user %s is %d", name, id.UID)
		} else if e != nil && !strings.Contains(passwd, name) {
			t.Errorf("user %q is not in %q", name, passwd)
		}
		if n, e := strconv.ParseUint(groupName, 10, 16); grouped && e == nil && id.GID != uint32(n) {
			t.Errorf("group %s is %d", groupName, id.GID)
		}
		for _, n := range append(id.Groups, id.UID, id.GID) {
			if n > 65535 {
				t.Errorf("id %d of %q", n, who)
			}
		}
	})
}
