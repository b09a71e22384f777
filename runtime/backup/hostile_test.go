package backup

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"stead/runtime/roottest"
	"stead/runtime/xattr"

	"github.com/klauspost/compress/zstd"
)

// member is a member of an archive.
type member struct {
	*tar.Header
	content []byte
}

// membersOf returns all members of an archive but the last, which has the checksum.
func membersOf(t *testing.T, archive []byte) (all []member) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(unzstd(t, archive)))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all[:len(all)-1]
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{h, b})
	}
}

// forge writes an archive of these members, with the right checksum.
func forge(t *testing.T, all []member) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := newWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		h := *m.Header
		h.Size = int64(len(m.content))
		if h.Typeflag != tar.TypeReg {
			h.Size = 0
		}
		if err := w.header(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.tar.Write(m.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func file(name, content string) member {
	return member{&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, PAXRecords: map[string]string{}}, []byte(content)}
}

func link(kind byte, name, to string) member {
	return member{&tar.Header{Typeflag: kind, Name: name, Linkname: to, Mode: 0o777}, nil}
}

func directory(name string) member {
	return member{&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}, nil}
}

// hostile are archives that somebody has made up, with the right checksum: what is added at the end of
// live/root, or what is done to all members.
func hostile(outside string) map[string]func(all []member) []member {
	add := func(more ...member) func([]member) []member {
		return func(all []member) []member { return append(slices.Clone(all), more...) }
	}
	index := func(old, new string) func([]member) []member {
		return func(all []member) []member {
			all = slices.Clone(all)
			text := strings.Replace(string(all[0].content), old, new, 1)
			if text == string(all[0].content) {
				panic(old)
			}
			all[0].content = []byte(text)
			return all
		}
	}
	whiteout := func(name, kind string) member {
		m := file(name, "")
		m.PAXRecords[xattr.TarPrefix+whiteoutXattr] = kind
		return m
	}
	sparse := file("live/root/z", "1\n0\n0\n")
	sparse.PAXRecords = map[string]string{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "../../" + outside, "GNU.sparse.realsize": "9000000000000000000"}
	return map[string]func([]member) []member{
		"a path that leaves":                  add(file("live/root/../../x", "evil")),
		"a path that leaves and comes back":   add(file("live/root/y/../z", "evil")),
		"an absolute path":                    add(file(outside+"/x", "evil")),
		"an absolute path in a tree":          add(file("live/root//etc/x", "evil")),
		"a tree that the index does not have": add(file("live/other/x", "evil")),
		"a link that leads out, with a file":  add(link(tar.TypeSymlink, "live/root/y", outside), file("live/root/y/x", "evil")),
		"a link up, with a directory":         add(link(tar.TypeSymlink, "live/root/y", "../.."), directory("live/root/y/x")),
		"a link in place of the top": func(all []member) []member {
			return replace(all, "live/root/", link(tar.TypeSymlink, "live/root", outside))
		},
		"a hard link that leads out":            add(link(tar.TypeLink, "live/root/y", "live/root/../../x")),
		"a hard link to an absolute path":       add(link(tar.TypeLink, "live/root/y", outside+"/mark")),
		"a hard link through a link":            add(link(tar.TypeSymlink, "live/root/y", outside), link(tar.TypeLink, "live/root/z", "live/root/y/mark")),
		"a hard link to what comes later":       add(link(tar.TypeLink, "live/root/y", "live/root/z"), file("live/root/z", "")),
		"a hard link to another tree":           add(link(tar.TypeLink, "live/root/y", "stead/index.json")),
		"a file twice":                          add(file("live/root/y", "1"), file("live/root/y", "2")),
		"a file below a file":                   add(file("live/root/y", "1"), file("live/root/y/x", "2")),
		"files in another order":                add(file("live/root/z", "1"), file("live/root/y", "2")),
		"a whiteout of the directory above":     add(directory("live/root/y"), whiteout("live/root/y/.wh...", whiteoutGone)),
		"a whiteout where nothing was":          add(directory("frozen/root"), whiteout("frozen/root/.wh.nonsuch", whiteoutGone)),
		"a whiteout of overlay in a plain tree": add(whiteout("live/root/.wh.y", whiteoutUpper)),
		"an unknown kind of member":             add(member{&tar.Header{Typeflag: 'V', Name: "live/root/y"}, nil}),
		"a second index":                        add(file("stead/index.json", "{}")),
		"a second manifest":                     add(file("stead/manifest.yaml", "{}")),
		"frozen before live": func(all []member) []member {
			return append(slices.Clone(all[:3]), append([]member{directory("frozen/root"), file("frozen/root/a", "")}, all[3:]...)...)
		},
		"no index":                           func(all []member) []member { return all[1:] },
		"no tree":                            func(all []member) []member { return all[:3] },
		"the tree without its top":           func(all []member) []member { return slices.Delete(slices.Clone(all), 3, 4) },
		"members in reverse":                 func(all []member) []member { all = slices.Clone(all); slices.Reverse(all[3:]); return all },
		"a file with a hole that has no end": add(sparse),
		"a newer version":                    index(`"version": 2`, `"version": 3`),
		"another format":                     index(`"format": "stead-backup"`, `"format": "other"`),
		"a tree with a path":                 index(`"name": "root"`, `"name": "../root"`),
		"a volume with a path":               index(`"name": "root"`, `"name": "volume-../x", "volume": "../x"`),
		"a mount with a relative path":       index(`"name": "root"`, `"name": "bind-0", "target": "x/../../y"`),
		"the same tree twice":                index(`"trees": [`, `"trees": [{"name": "root"}, `),
		"nested too deeply":                  add(nested(maxDepth + 10)...),
		"more files than allowed":            add(many(300)...),
		"more bytes than allowed":            add(file("live/root/y", strings.Repeat("\x00", 5<<20))),
		"an attribute that does not fit":     add(withXattr("trusted.overlay.opaque"), withXattr("x")),
	}
}

func replace(all []member, name string, m member) []member {
	all = slices.Clone(all)
	for i := range all {
		if all[i].Name == name {
			all[i] = m
		}
	}
	return all
}

func nested(depth int) (all []member) {
	name := "live/root/y"
	for range depth {
		all = append(all, directory(name))
		name += "/y"
	}
	return all
}

func many(n int) (all []member) {
	for i := range n {
		all = append(all, file(fmt.Sprintf("live/root/y%04d", i), ""))
	}
	return all
}

func withXattr(name string) member {
	m := file("live/root/y", "")
	m.PAXRecords[xattr.TarPrefix+name] = strings.Repeat("y", 10)
	return m
}

// 200 archives that are damaged or made up: each is refused, and nothing outside of the directory for it
// changes.
func TestHostileArchives(t *testing.T) {
	roottest.Need(t)
	world := t.TempDir()
	tree, outside := world+"/tree", world+"/outside"
	for _, dir := range []string{tree + "/etc", outside} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{tree + "/etc/file", outside + "/mark"} {
		if err := os.WriteFile(name, bytes.Repeat([]byte("some text "), 500), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	whole, err := os.ReadFile(archive(t, tree, false))
	if err != nil {
		t.Fatal(err)
	}
	members := membersOf(t, whole)
	before := inventory(t, world)
	count := 0
	try := func(summary string, bad []byte, mayBeWhole bool) {
		count++
		dir := t.TempDir()
		limits := Limits{Bytes: 4 << 20, Entries: 200}
		_, err := Unpack(t.Context(), bytes.NewReader(bad), dir, limits, func(*Index) (map[string]string, error) { return nil, nil })
		if err == nil && !mayBeWhole {
			t.Errorf("%s: accepted", summary)
		}
		if after := inventory(t, world); !maps.Equal(before, after) {
			t.Fatalf("%s: changed something outside", summary)
		}
	}
	if again := forge(t, members); true { // the forgery itself is no reason
		dir := t.TempDir()
		if _, err := Unpack(t.Context(), bytes.NewReader(again), dir, Limits{}, func(*Index) (map[string]string, error) { return nil, nil }); err != nil {
			t.Fatal(err)
		}
		sameTree(t, dir+"/root", tree)
	}
	for summary, change := range hostile(outside) {
		func() {
			defer func() {
				if p := recover(); p != nil {
					t.Fatalf("%s: %v", summary, p)
				}
			}()
			try(summary, forge(t, change(members)), false)
		}()
	}
	random := rand.New(rand.NewPCG(3, 4))
	plain := unzstd(t, whole)
	for i := range 55 {
		bad := bytes.Clone(whole)
		bit := random.IntN(len(bad) * 8)
		bad[bit/8] ^= 1 << (bit % 8)
		try(fmt.Sprintf("bit %d flipped", bit), bad, bytes.Equal(tryUnzstd(bad), plain))
		try(fmt.Sprintf("cut off after %d in 55 parts", i), whole[:len(whole)*i/55], false)
		loose := bytes.Clone(plain)
		bit = random.IntN(len(loose) * 8)
		loose[bit/8] ^= 1 << (bit % 8)
		try(fmt.Sprintf("bit %d of the tar flipped", bit), zipped(t, loose), false)
	}
	if count < 200 {
		t.Errorf("only %d archives", count)
	}
}

func tryUnzstd(b []byte) []byte {
	r, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	defer r.Close()
	out, _ := io.ReadAll(r)
	return out
}

func zipped(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
