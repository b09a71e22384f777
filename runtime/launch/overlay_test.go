package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// layered makes n layers, of which the topmost holds the files of a root, and a container's
// directory.
func (b *bench) layered(n int) *Overlay {
	b.t.Helper()
	b.n++
	o := &Overlay{Dir: filepath.Join(b.dir, fmt.Sprint("web", b.n)), Layers: filepath.Join(b.dir, fmt.Sprint("layers", b.n)), IDBase: 0x80000, Fresh: true}
	for i := 1; i <= n; i++ {
		o.Lower = append(o.Lower, i)
		os.MkdirAll(filepath.Join(o.Layers, fmt.Sprint(i), "etc"), 0o755)
		os.WriteFile(filepath.Join(o.Layers, fmt.Sprint(i), "etc", fmt.Sprint("layer", i)), nil, 0o644)
	}
	for _, d := range []string{"proc", "sys", "dev", "usr", "tmp", "etc", "var"} {
		os.MkdirAll(filepath.Join(o.Layers, "1", d), 0o755)
	}
	for _, l := range []string{"bin", "lib", "lib64", "sbin"} {
		os.Symlink("usr/"+l, filepath.Join(o.Layers, "1", l))
	}
	for _, d := range []string{"upper", "work", "root"} {
		os.MkdirAll(filepath.Join(o.Dir, d), 0o755)
	}
	b.t.Cleanup(func() {
		if err := UnmountRoot(o.Dir + "/root"); err != nil {
			b.t.Error(err)
		}
	})
	return o
}

func (b *bench) mounted(o *Overlay) Mounted {
	b.t.Helper()
	m, err := b.MountRoot(o)
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

func TestMergedRoot(t *testing.T) {
	b := newBench(t)
	for _, idBase := range []uint32{0x80000, 0} {
		o := b.layered(2)
		o.IDBase = idBase
		m := b.mounted(o)
		if now, ok := MountedAt(o.Dir + "/root"); !ok || now != m {
			t.Errorf("mounted: %+v %v, want %+v", now, ok, m)
		}
		for range 2 { // a restart uses the same mount
			c := b.config(`id -u; stat -c %u:%g /etc/layer1 /tmp; echo new >/tmp/made; rm /etc/layer2; ls /etc; grep " / / " /proc/self/mountinfo
				mkdir /tmp/d; chmod 4755 /tmp/made; stat -c "%u %a" /tmp/made`)
			c.Root = Root{Path: o.Dir + "/root", Merged: &m, Usr: "/usr"}
			c.IDBase = idBase
			os.Chown(c.Stdout, int(idBase), int(idBase))
			os.Chown(c.Stderr, int(idBase), int(idBase))
			code, out, errOut, err := b.run(c)
			if err != nil || code != 0 {
				t.Fatalf("code %d, error %v\n%s%s", code, err, out, errOut)
			}
			if want := "0\n0:0\n0:0\nlayer1\n"; !strings.HasPrefix(out, want) || strings.Contains(out, "nosuid") || !strings.Contains(out, "nodev") || !strings.HasSuffix(out, "0 4755\n") {
				t.Errorf("inside: %q\n%s", out, errOut)
			}
			os.Remove(o.Dir + "/upper/tmp/d")
		}
		var st unix.Stat_t
		if err := unix.Stat(o.Dir+"/upper/tmp/made", &st); err != nil || st.Uid != 0 {
			t.Errorf("on disk: owner %d, %v", st.Uid, err)
		}
		if err := unix.Stat(o.Dir+"/root/tmp/made", &st); err != nil || st.Uid != idBase {
			t.Errorf("in the merged root: owner %d, %v", st.Uid, err)
		}
		if _, err := os.Stat(o.Layers + "/2/etc/layer2"); err != nil {
			t.Error("the layer was changed: ", err)
		}
		if err := UnmountRoot(o.Dir + "/root"); err != nil {
			t.Error(err)
		}
		if _, ok := MountedAt(o.Dir + "/root"); ok {
			t.Error("still mounted")
		}
	}
}

// An upper directory that another namespace still has mounted is not mounted a second time.
func TestMergedRootHeld(t *testing.T) {
	b := newBench(t)
	o := b.layered(1)
	b.mounted(o)
	o.Fresh = false
	holder, err := os.Open(o.Dir + "/root/tmp")
	if err != nil {
		t.Fatal(err)
	}
	if err := UnmountRoot(o.Dir + "/root"); err != nil {
		t.Fatal(err)
	}
	if m, err := b.MountRoot(o); !errors.Is(err, ErrHeld) {
		t.Fatalf("mounted while a file is open: %+v %v", m, err)
	}
	os.Remove(o.Dir + "/root")
	os.Mkdir(o.Dir+"/root", 0o700)
	if m, err := b.MountRoot(o); !errors.Is(err, ErrHeld) {
		t.Fatalf("mounted while a file is open: %+v %v", m, err)
	}
	holder.Close()
	b.mounted(o)
}

// A long path and as many layers as an image may have.
func TestMergedRootLimits(t *testing.T) {
	b := newBench(t)
	b.dir = filepath.Join(b.dir, strings.Repeat("x", 100), strings.Repeat("y", 100))
	os.MkdirAll(b.dir, 0o700)
	o := b.layered(127)
	b.mounted(o)
	if names, err := os.ReadDir(o.Dir + "/root/etc"); err != nil || len(names) != 127 {
		t.Errorf("%d names, %v", len(names), err)
	}
}

// A start does not take what somebody put in the place of the merged root.
func TestMergedRootReplaced(t *testing.T) {
	b := newBench(t)
	o := b.layered(1)
	m := b.mounted(o)
	c := b.config("echo ran")
	c.Root = Root{Path: o.Dir + "/root", Merged: &m, Usr: "/usr"}
	if err := unix.Mount("t", o.Dir+"/root", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time without a mount
		var failed *Error
		if _, out, _, err := b.run(c); !errors.As(err, &failed) || failed.Where != AtRoot || out != "" {
			t.Errorf("%q %v, want an error about the root", out, err)
		}
		if err := UnmountRoot(o.Dir + "/root"); err != nil {
			t.Fatal(err)
		}
	}
}

// A file system that can't map ids is refused with the reason, and nothing is left of an attempt.
func TestMergedRootRefused(t *testing.T) {
	b := newBench(t)
	for _, d := range []string{"lower", "upper", "work", "disk"} {
		os.Mkdir(filepath.Join(b.dir, d), 0o755)
	}
	disk := filepath.Join(b.dir, "disk")
	if err := unix.Mount("t", disk, "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", b.dir)); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	var failed *Error
	if err := TryOverlay(disk, 0x80000); !errors.As(err, &failed) || failed.Where != AtIDMap || !strings.Contains(err.Error(), "this file system can't map ids") {
		t.Errorf("on an overlay: %v", err)
	}
	if err := TryOverlay(b.dir, 0x80000); err != nil {
		t.Errorf("on the tests' own: %v", err)
	}
	for _, dir := range []string{disk, b.dir} {
		if left, _ := filepath.Glob(dir + "/.stead*"); len(left) > 0 {
			t.Errorf("left over: %q", left)
		}
	}
	b.dir = disk
	o := b.layered(1)
	if _, err := b.MountRoot(o); !errors.As(err, &failed) || failed.Where != AtIDMap {
		t.Errorf("mount on an overlay: %v", err)
	}
}

// A thousand merged roots slow neither the host's look at its mounts nor a start: what a start
// copies is the nursery, in which none of them is.
func TestMergedRootsMany(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts a thousand roots")
	}
	b := newBench(t)
	inside := func() string {
		c := b.config("wc -l </proc/self/mountinfo")
		_, out, errOut, err := b.run(c)
		if err != nil {
			t.Fatal(err, errOut)
		}
		return strings.TrimSpace(out)
	}
	nursery := func() (n int) {
		b.do(func(w *worker) {
			w.enter(w.nursery)
			defer w.enter(w.host)
			text, err := os.ReadFile("/proc/thread-self/mountinfo")
			if err != nil {
				t.Error(err)
			}
			n = strings.Count(string(text), "\n")
		})
		return n
	}
	before, mounts := inside(), nursery()
	o := b.layered(1)
	for i := range 1000 {
		one := *o
		one.Dir, one.IDBase = fmt.Sprintf("%s-%d", o.Dir, i), uint32(0x80000+i<<16)
		for _, d := range []string{"upper", "work", "root"} {
			os.MkdirAll(filepath.Join(one.Dir, d), 0o755)
		}
		b.mounted(&one)
	}
	defer func() {
		all, _ := filepath.Glob(o.Dir + "-*")
		for _, dir := range all {
			if err := UnmountRoot(dir + "/root"); err != nil {
				t.Error(err)
			}
		}
	}()
	if after, now := inside(), nursery(); after != before || now != mounts {
		t.Errorf("a container has %s mounts, the nursery %d; before %s and %d", after, now, before, mounts)
	}
	if _, err := exec.LookPath("findmnt"); err != nil {
		t.Skip(err)
	}
	began := time.Now()
	out, err := exec.Command("findmnt", "--noheadings", "--list", "--types", "overlay", "--output", "SOURCE").CombinedOutput()
	if n := strings.Count(string(out), o.Dir+"-"); err != nil || n != 1000 {
		t.Errorf("findmnt lists %d of the roots: %v", n, err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("findmnt took %v", took)
	} else {
		t.Logf("findmnt took %v", took)
	}
}

// The kernel's own defaults change nothing. They are the host's: this runs on the emulated machine
// only.
func TestMergedRootDefaults(t *testing.T) {
	if os.Getenv("STEAD_TEST_VM") == "" {
		t.Skip("it changes parameters of the kernel")
	}
	b := newBench(t)
	for _, name := range []string{"index", "metacopy", "redirect_dir", "xino_auto", "nfs_export"} {
		file := "/sys/module/overlay/parameters/" + name
		was, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		flipped := map[string]string{"N\n": "Y\n", "Y\n": "N\n"}[string(was)]
		if err := os.WriteFile(file, []byte(flipped), 0o644); err != nil {
			t.Fatal(err)
		}
		o := b.layered(2)
		o.IDBase = 0
		b.mounted(o)
		root := o.Dir + "/root"
		if err := os.Chmod(root+"/etc/layer1", 0o600); err != nil {
			t.Error(name, err)
		}
		if err := os.Rename(root+"/var", root+"/var2"); !errors.Is(err, unix.EXDEV) {
			t.Errorf("%s: rename a directory of a layer: %v", name, err)
		}
		if err := UnmountRoot(root); err != nil {
			t.Fatal(err)
		}
		for _, attribute := range []string{"trusted.overlay.metacopy", "trusted.overlay.redirect"} {
			if _, err := unix.Getxattr(o.Dir+"/upper/etc/layer1", attribute, nil); err == nil {
				t.Errorf("%s: upper has %s", name, attribute)
			}
		}
		// The layers are unpacked anew, as after a restore: other inodes, the same content.
		if out, err := exec.Command("sh", "-c", "cp -a "+o.Layers+" "+o.Layers+"-new && rm -r "+o.Layers+" && mv "+o.Layers+"-new "+o.Layers).CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
		o.Fresh = false
		b.mounted(o)
		if err := os.WriteFile(file, was, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
