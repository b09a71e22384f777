package source

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stead/runtime/hostpath"
	"stead/runtime/roottest"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// placed is a host with manifest directories DIR/etc and DIR/m, DIR/m given as the
// link DIR/named, and a container that may write to writable.
type placed struct {
	t        *testing.T
	dir      string
	writable []string
	*Source
}

func newPlaced(t *testing.T, files map[string]string) *placed {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &placed{t: t, dir: dir}
	tree(t, dir, map[string]string{"named": "-> m", "conf/config.yaml": "", "state/x": "", "etc/x.txt": "", "m/x.txt": ""})
	tree(t, dir, files)
	p.Source = &Source{
		Dirs: []string{dir + "/etc", dir + "/named", dir + "/missing/m"}, Parser: spec.Parser{Host: "here"}, Writable: func() []string { return p.writable },
		Protected: []hostpath.Protected{{What: "the configuration", Path: dir + "/conf/config.yaml"}, {What: "the state directory", Path: dir + "/state", State: true}},
	}
	return p
}

// said are the errors of the directories, files and documents that were read, and the
// containers of those that have none.
func (p *placed) said() (errs, containers []string) {
	r := p.Read()
	for _, d := range r.Dirs {
		if d.Err != nil && !d.Missing() {
			errs = append(errs, d.Path+": "+d.Err.Error())
		}
	}
	for _, f := range slices.Concat(r.Files, r.Fragments) {
		if f.Err != nil {
			errs = append(errs, f.Err.Error())
		}
		for _, d := range f.Documents {
			for _, e := range d.Errors {
				errs = append(errs, e.Error())
			}
			if d.Container != nil {
				containers = append(containers, d.Name)
			}
		}
	}
	for i := range errs {
		errs[i] = strings.ReplaceAll(errs[i], p.dir, "DIR")
	}
	return errs, containers
}

func manifest(name, more string) string {
	return fmt.Sprintf("apiVersion: stead/v1\nkind: Container\nmetadata: {name: %s}\nspec:\n  command: [sh]\n  network: {mode: none}\n%s", name, more)
}

func mounting(source string) string {
	return manifest("web", "  rootfs: {host: {}}\n  mounts: {/data: {source: "+source+"}}\n")
}

func rootedAt(path string) string { return manifest("web", "  rootfs: {path: "+path+"}\n") }

// A manifest that asks to write where orders come from has an error at the line that
// does, whatever links lead there.
func TestMayNotWriteProtected(t *testing.T) {
	const mount, root = "DIR/m/web.yaml:8:28: spec.mounts[/data].source: ", "DIR/m/web.yaml:7:18: spec.rootfs.path: "
	for _, row := range []struct {
		summary, manifest string // DIR is the host's
		files             map[string]string
		want              string // "" is no error
	}{
		{"elsewhere", mounting("DIR/srv"), nil, ""},
		{"what only begins alike", mounting("DIR/m2"), nil, ""},
		{"read-only", mounting("DIR/m/data, readOnly: true"), nil, ""},
		{"a read-only root", manifest("web", "  rootfs: {path: DIR/m/root, readOnly: true}\n"), nil, ""},
		{"for other hosts", strings.Replace(mounting("DIR/m/data"), "spec:", "spec:\n  hosts: [there]", 1), nil, ""},
		{"in the directory", mounting("DIR/m/shop/data"), nil, mount + "found DIR/m/shop/data: it lies in the manifest directory DIR/named"},
		{"the directory by its link", mounting("DIR/named"), nil, mount + "found DIR/named, which leads to DIR/m: it is the manifest directory DIR/named"},
		{"another directory", mounting("DIR/etc/x"), nil, mount + "found DIR/etc/x: it lies in the manifest directory DIR/etc"},
		{"above one that is not there yet", mounting("DIR/missing"), nil, mount + "found DIR/missing: it contains the manifest directory DIR/missing/m"},
		{"above with the link to it", mounting("DIR"), nil, mount + "found DIR: it contains "},
		{"the whole host", mounting("/"), nil, mount + "found /: it contains "},
		{"the configuration's directory", mounting("DIR/conf"), nil, mount + "found DIR/conf: it contains the configuration DIR/conf/config.yaml"},
		{"the configuration", mounting("DIR/conf/config.yaml"), nil, mount + "found DIR/conf/config.yaml: it is the configuration "},
		{"beside the configuration", mounting("DIR/conf/other"), nil, ""},
		{"stead's state", mounting("DIR/state/containers/db"), nil, mount + "found DIR/state/containers/db: it lies in the state directory DIR/state"},
		{"another container's root", mounting("DIR/state/containers/db/upper/srv"), nil, ""},
		{"a link into the directory", mounting("DIR/srv/data"), map[string]string{"srv/data": "-> ../m/shop"},
			mount + "found DIR/srv/data, which leads to DIR/m/shop: it lies in the manifest directory DIR/named"},
		{"a folder that a link makes part of the manifests", mounting("DIR/git/shop/data"), map[string]string{"m/shop": "-> ../git/shop", "git/shop/db.yaml": manifest("db", "  rootfs: {host: {}}\n")},
			mount + "found DIR/git/shop/data: it lies in what is read as DIR/named/shop"},
		{"above such a folder", mounting("DIR/git"), map[string]string{"m/shop": "-> ../git/shop", "git/shop/db.yaml": manifest("db", "  rootfs: {host: {}}\n")},
			mount + "found DIR/git: it contains what is read as DIR/named/shop"},
		{"a link on the way to such a folder", mounting("DIR/links"), map[string]string{"m/shop": "-> ../links/shop", "links/shop": "-> ../git/shop", "git/shop/db.yaml": manifest("db", "  rootfs: {host: {}}\n")},
			mount + "found DIR/links: it contains what is read as DIR/named/shop"},
		{"a file that a link makes a manifest", mounting("DIR/git/db.yaml"), map[string]string{"m/db.yaml": "-> ../git/db.yaml", "git/db.yaml": manifest("db", "  rootfs: {host: {}}\n")},
			mount + "found DIR/git/db.yaml: it is what is read as DIR/named/db.yaml"},
		{"a root in the directory", rootedAt("DIR/m/root"), nil, root + "found DIR/m/root: it lies in the manifest directory DIR/named"},
		{"a root above the directory", rootedAt("DIR"), nil, root + "found DIR: it contains "},
		{"a drop-in's mount", manifest("web", "  rootfs: {host: {}}\n"), map[string]string{"m/web.container.d/10.yaml": "spec:\n  mounts:\n    /data:\n      source: DIR/m/web.container.d\n"},
			"DIR/named/web.container.d/10.yaml:4:15: spec.mounts[/data].source: found DIR/m/web.container.d: it lies in the manifest directory DIR/named"},
		{"a drop-in for all", manifest("web", "  rootfs: {host: {}}\n"), map[string]string{"m/container.d/10.yaml": "spec: {mounts: {/data: {source: DIR/m}}}\n"},
			"DIR/named/container.d/10.yaml:1:33: spec.mounts[/data].source: found DIR/m: it is the manifest directory DIR/named"},
		{"a drop-in that makes it read-only", mounting("DIR/m/data"), map[string]string{"m/web.container.d/10.yaml": "spec: {mounts: {/data: {readOnly: true}}}\n"}, ""},
	} {
		t.Run(row.summary, func(t *testing.T) {
			p := newPlaced(t, nil)
			for name, content := range row.files {
				row.files[name] = strings.ReplaceAll(content, "DIR", p.dir)
			}
			tree(t, p.dir, row.files)
			tree(t, p.dir, map[string]string{"m/web.yaml": strings.ReplaceAll(row.manifest, "DIR", p.dir)})
			errs, _ := p.said()
			want := strings.Replace(row.want, "DIR/m/web.yaml", "DIR/named/web.yaml", 1)
			switch {
			case want == "" && len(errs) > 0:
				t.Errorf("errors: %q", errs)
			case want != "" && (len(errs) != 1 || !strings.HasPrefix(errs[0], want)):
				t.Errorf("errors: %q\nwant %s", errs, want)
			}
		})
	}
}

// A link of a mount's source that changes is noticed at the next tick, both ways, and
// so is one among the manifests.
func TestMayNotWriteProtectedLater(t *testing.T) {
	p := newPlaced(t, map[string]string{"srv/x": "", "srv/link": "-> ."})
	tree(t, p.dir, map[string]string{"m/web.yaml": mounting(p.dir + "/srv/link")})
	relink := func(link, target string) {
		t.Helper()
		if err := os.Remove(p.dir + link); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		tree(t, p.dir, map[string]string{link[1:]: "-> " + target})
	}
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, ""},
		{func() { relink("/srv/link", p.dir+"/etc") }, "it is the manifest directory"},
		{func() { relink("/srv/link", ".") }, ""},
		{func() { relink("/m/shop", p.dir+"/srv") }, "it is what is read as DIR/named/shop"},
		{func() { relink("/m/shop", p.dir+"/conf") }, ""},
	} {
		step.do()
		p.Renew()
		errs, _ := p.said()
		errs = slices.DeleteFunc(errs, func(e string) bool { return strings.Contains(e, "no manifest") || !strings.Contains(e, "spec.mounts") })
		if step.want == "" && len(errs) > 0 || step.want != "" && (len(errs) != 1 || !strings.Contains(errs[0], step.want)) {
			t.Errorf("errors %q, want %q", errs, step.want)
		}
	}
}

// Nothing is read below what a container can write, or by a link that it can change:
// not when it could from the beginning, and not when it can later.
func TestNotReadWhereContainersWrite(t *testing.T) {
	db, evil := manifest("db", "  rootfs: {host: {}}\n"), manifest("evil", "  rootfs: {host: {}}\n")
	const why = "a container can write to DIR"
	for _, row := range []struct {
		summary    string
		files      map[string]string
		writable   string
		want       []string // errors begin so
		containers string
	}{
		{"elsewhere", map[string]string{"m/evil.yaml": evil}, "/srv", nil, "db evil"},
		{"a folder", map[string]string{"m/shop/data/evil.yaml": evil}, "/m/shop/data", []string{"DIR/named: shop/data: " + why + "/m/shop/data"}, "db"},
		{"below it", map[string]string{"m/shop/data/x/evil.yaml": evil}, "/m/shop/data", []string{"DIR/named: shop/data: " + why + "/m/shop/data"}, "db"},
		{"the directory", map[string]string{"m/evil.yaml": evil}, "/m", []string{"DIR/named: " + why + "/m"}, "db"},
		{"above it", map[string]string{"m/evil.yaml": evil}, "", []string{"DIR/etc: " + why, "DIR/named: " + why}, ""},
		{"a file", map[string]string{"m/evil.yaml": evil}, "/m/evil.yaml", []string{"DIR/named/evil.yaml: " + why + "/m/evil.yaml"}, "db"},
		{"where a link leads", map[string]string{"m/shop": "-> ../srv/data", "srv/data/evil.yaml": evil}, "/srv/data", []string{"DIR/named: shop: " + why + "/srv/data"}, "db"},
		{"where a link to a file leads", map[string]string{"m/evil.yaml": "-> ../srv/evil.yaml", "srv/evil.yaml": evil}, "/srv", []string{"DIR/named/evil.yaml: " + why + "/srv"}, "db"},
		{"a link on the way", map[string]string{"m/shop": "-> ../srv/to", "srv/to": "-> ../git", "git/evil.yaml": evil}, "/srv", []string{"DIR/named: shop: " + why + "/srv"}, "db"},
		{"a link in the directory's path", map[string]string{"m/evil.yaml": evil}, "/named", []string{"DIR/named: " + why + "/named"}, "db"},
		{"a drop-in folder", map[string]string{"etc/db.container.d/10.yaml": "spec: {command: [evil]}"}, "/etc/db.container.d",
			[]string{"DIR/etc/db.container.d: " + why + "/etc/db.container.d", "DIR/etc/db.container.d: " + why}, ""},
		{"a drop-in folder for all, by a link", map[string]string{"m/container.d": "-> ../srv/d", "srv/d/10.yaml": "spec: {command: [evil]}"}, "/srv",
			[]string{"DIR/named/container.d: " + why + "/srv", "DIR/named/container.d: " + why}, ""},
		{"a mask", map[string]string{"etc/shop/wiki.yaml": manifest("wiki", "  rootfs: {host: {}}\n"), "m/shop/wiki.yaml": "-> /dev/null"}, "/m/shop",
			[]string{"DIR/named: shop: " + why + "/m/shop"}, "db wiki"},
	} {
		t.Run(row.summary, func(t *testing.T) {
			for _, when := range []string{"from the beginning", "later", "while it is followed"} {
				p := newPlaced(t, map[string]string{"etc/db.yaml": db})
				tree(t, p.dir, row.files)
				if when != "from the beginning" {
					if when == "while it is followed" {
						p.Watch(t.Context())
					}
					if errs, _ := p.said(); len(errs) > 0 {
						t.Fatalf("before: %q", errs)
					}
				}
				p.writable = []string{p.dir + row.writable}
				if when == "while it is followed" {
					p.Read()
				}
				errs, containers := p.said()
				slices.Sort(errs)
				for i, e := range errs {
					if i >= len(row.want) || !strings.HasPrefix(e, row.want[i]) {
						t.Errorf("%s: %s", when, e)
					}
				}
				if len(errs) != len(row.want) || strings.Join(containers, " ") != row.containers {
					t.Errorf("%s: errors %q, want %d; containers %q, want %q", when, errs, len(row.want), containers, row.containers)
				}
			}
		})
	}
}

// A bind mount makes a folder of manifests of what a container can write by another
// path: neither is that read, nor may a manifest ask to write there.
func TestBindMountAmongManifests(t *testing.T) {
	roottest.Need(t)
	p := newPlaced(t, map[string]string{"srv/data/evil.yaml": manifest("evil", "  rootfs: {host: {}}\n"), "m/shop/x.txt": ""})
	tree(t, p.dir, map[string]string{"etc/web.yaml": mounting(p.dir + "/srv")})
	if errs, containers := p.said(); len(errs) != 0 || len(containers) != 1 {
		t.Fatalf("before: errors %q, containers %q", errs, containers)
	}
	if err := unix.Mount(p.dir+"/srv/data", p.dir+"/m/shop", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(p.dir+"/m/shop", unix.MNT_DETACH)
	errs, containers := p.said()
	if want := "DIR/etc/web.yaml:8:28: spec.mounts[/data].source: found DIR/srv: it lies in the manifest directory DIR/named"; len(errs) != 1 || !strings.HasPrefix(errs[0], want) {
		t.Errorf("errors %q, want %s", errs, want)
	}
	if !slices.Equal(containers, []string{"evil"}) { // of the host's own hand, until a container can write it
		t.Errorf("containers %q", containers)
	}
	p.writable = []string{p.dir + "/srv"}
	errs, containers = p.said()
	if want := "DIR/named: shop: a container can write to DIR/m/shop"; len(errs) != 2 || !strings.HasPrefix(errs[0], want) || len(containers) != 0 {
		t.Errorf("errors %q, want %s; containers %q", errs, want, containers)
	}
}

// A folder that a container could write is known again by another name.
func TestNotReadAfterRename(t *testing.T) {
	p := newPlaced(t, map[string]string{"m/shop/data/evil.yaml": manifest("evil", "  rootfs: {host: {}}\n"), "m/shop/db.yaml": manifest("db", "  rootfs: {host: {}}\n")})
	fd, err := unix.Open(p.dir+"/m/shop/data", unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	identity := hostpath.Identity(fd)
	if identity == "" {
		t.Skip("this file system keeps no time of birth")
	}
	p.writable = []string{p.dir + "/m/shop/data", identity}
	if err := os.Rename(p.dir+"/m/shop", p.dir+"/m/store"); err != nil {
		t.Fatal(err)
	}
	errs, containers := p.said()
	if want := "DIR/named: store/data: a container can write to DIR/m/store/data, or once could"; len(errs) != 1 || !strings.HasPrefix(errs[0], want) || len(containers) != 1 {
		t.Errorf("errors %q, want %s; containers %q", errs, want, containers)
	}
}

// A container that begins to write where a reading under way has been already gets
// nothing read.
func TestWrittenWhileRead(t *testing.T) {
	p := newPlaced(t, map[string]string{"m/data/evil.yaml": manifest("evil", "  rootfs: {host: {}}\n")})
	asked := 0
	p.Writable = func() []string {
		if asked++; asked == 1 {
			return nil
		}
		return []string{p.dir + "/m/data"}
	}
	if errs, containers := p.said(); len(errs) != 1 || len(containers) != 0 {
		t.Errorf("errors %q, containers %q", errs, containers)
	}
}
