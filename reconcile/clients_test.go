package reconcile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stead/reconcile/view"

	"golang.org/x/sys/unix"
)

// client replays the system calls by which a tool writes into a manifest
// directory, in the tool's order. All paths are below the stage's root.
type client struct {
	*stage
	between bool // the daemon looks after each single call
	fds     map[string]*os.File
}

func (c *client) done(err error) {
	c.t.Helper()
	c.must(err)
	if c.between {
		c.settle()
	}
}

func (c *client) path(name string) string { return filepath.Join(c.root, name) }

func (c *client) open(name string, flags int, mode os.FileMode) {
	c.t.Helper()
	f, err := os.OpenFile(c.path(name), flags, mode)
	c.fds[name] = f
	c.done(err)
}

func (c *client) write(name, text string) {
	c.t.Helper()
	_, err := c.fds[name].WriteString(text)
	c.done(err)
}

func (c *client) close(name string) { c.t.Helper(); c.done(c.fds[name].Close()) }

// create opens a new file, writes and closes it.
func (c *client) create(name, text string, mode os.FileMode) {
	c.t.Helper()
	c.open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	c.write(name, text)
	c.close(name)
}

// over truncates a file and writes it, in two parts.
func (c *client) over(name, text string) {
	c.t.Helper()
	c.open(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	c.write(name, text[:len(text)/2])
	c.write(name, text[len(text)/2:])
	c.close(name)
}

func (c *client) rename(old, new string) { c.t.Helper(); c.done(os.Rename(c.path(old), c.path(new))) }
func (c *client) unlink(name string)     { c.t.Helper(); c.done(os.Remove(c.path(name))) }
func (c *client) mkdir(name string)      { c.t.Helper(); c.done(os.Mkdir(c.path(name), 0o755)) }
func (c *client) link(old, new string)   { c.t.Helper(); c.done(os.Link(c.path(old), c.path(new))) }
func (c *client) symlink(to, name string) {
	c.t.Helper()
	c.done(os.Symlink(to, c.path(name)))
}

func (c *client) chmod(name string, mode os.FileMode) {
	c.t.Helper()
	c.done(os.Chmod(c.path(name), mode))
}

func (c *client) touch(name string) {
	c.t.Helper()
	c.done(os.Chtimes(c.path(name), time.Now(), time.Now()))
}

// The manifests that the tools meet, and what they make of web's. Without their
// last line they are manifests too, of which half-written ones must not be taken
// for whole.
var (
	webBefore = yaml("web") + "  resources: {pids: 5}\n"
	webAfter  = yaml("web") + "  resources: {pids: 6}\n"
	otherText = yaml("other")
)

// bomb is small and would mean a billion words.
func bomb() string {
	text := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for l := 'b'; l <= 'i'; l++ {
		text += fmt.Sprintf("%c: &%c [%s]\n", l, l, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", l-1), 9), ","))
	}
	return text
}

// TestClients: what each tool does comes to exactly the actions that its author
// meant, whether the daemon looks after each single call or only at the end.
func TestClients(t *testing.T) {
	for _, story := range []struct {
		summary string
		before  map[string]string // besides m/web.yaml and m/other.yaml, instead where it has "m"
		do      func(c *client)
		want    string // the actions
		why     string // what ps says of web then; an error, if any
		invalid string // another line of ps
	}{
		{
			summary: "vim",
			do: func(c *client) {
				c.open("m/.web.yaml.swp", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
				c.write("m/.web.yaml.swp", "b0VIM 9.0")
				c.create("m/4913", "", 0o100644) // may it write here?
				c.unlink("m/4913")
				c.rename("m/web.yaml", "m/web.yaml~")
				c.open("m/web.yaml", os.O_WRONLY|os.O_CREATE, 0o644)
				c.write("m/web.yaml", webAfter)
				c.must(c.fds["m/web.yaml"].Sync())
				c.close("m/web.yaml")
				c.chmod("m/web.yaml", 0o644)
				c.unlink("m/web.yaml~")
				c.close("m/.web.yaml.swp")
				c.unlink("m/.web.yaml.swp")
			},
			want: "update web",
		},
		{
			summary: "vim with backupcopy=yes",
			do: func(c *client) {
				c.create("m/web.yaml~", webBefore, 0o644)
				c.over("m/web.yaml", webAfter)
				c.unlink("m/web.yaml~")
			},
			want: "update web",
		},
		{
			summary: "nano, with its lock file",
			do: func(c *client) {
				c.create("m/.web.yaml.swp", "b0nano", 0o644)
				c.over("m/web.yaml", webAfter)
				c.unlink("m/.web.yaml.swp")
			},
			want: "update web",
		},
		{
			summary: "emacs: lock link, auto-save file, backup by renaming",
			do: func(c *client) {
				c.symlink("root@web-1.4711:1764000000", "m/.#web.yaml")
				c.create("m/#web.yaml#", webAfter[:40], 0o600)
				c.rename("m/web.yaml", "m/web.yaml~")
				c.open("m/web.yaml", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
				c.write("m/web.yaml", webAfter)
				c.close("m/web.yaml")
				c.unlink("m/.#web.yaml")
				c.unlink("m/#web.yaml#")
			},
			want: "update web", // and the backup stays
		},
		{
			summary: "sed -i",
			do: func(c *client) {
				c.create("m/sedAb3xQz", webAfter, 0o600)
				c.chmod("m/sedAb3xQz", 0o644)
				c.rename("m/sedAb3xQz", "m/web.yaml")
			},
			want: "update web",
		},
		{
			summary: "sed -i.bak",
			do: func(c *client) {
				c.create("m/sedAb3xQz", webAfter, 0o600)
				c.rename("m/web.yaml", "m/web.yaml.bak")
				c.rename("m/sedAb3xQz", "m/web.yaml")
			},
			want: "update web",
		},
		{
			summary: "rsync: a temporary name, then renamed over",
			do: func(c *client) {
				c.open("m/.web.yaml.k3PzTa", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
				c.write("m/.web.yaml.k3PzTa", webAfter[:50])
				c.write("m/.web.yaml.k3PzTa", webAfter[50:])
				c.close("m/.web.yaml.k3PzTa")
				c.touch("m/.web.yaml.k3PzTa")
				c.chmod("m/.web.yaml.k3PzTa", 0o644)
				c.rename("m/.web.yaml.k3PzTa", "m/web.yaml")
			},
			want: "update web",
		},
		{
			summary: "rsync --inplace to a shorter file",
			before:  map[string]string{"m/web.yaml": webBefore + "  # with more to say\n", "m/other.yaml": otherText},
			do: func(c *client) {
				c.open("m/web.yaml", os.O_WRONLY, 0)
				c.write("m/web.yaml", webAfter)
				c.done(c.fds["m/web.yaml"].Truncate(int64(len(webAfter))))
				c.close("m/web.yaml")
			},
			want: "update web",
		},
		{summary: "cp over it", do: func(c *client) { c.over("m/web.yaml", webAfter) }, want: "update web"},
		{
			summary: "tee, a byte at a time",
			do: func(c *client) {
				c.open("m/web.yaml", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
				for i := range webAfter {
					c.write("m/web.yaml", webAfter[i:i+1])
				}
				c.close("m/web.yaml")
			},
			want: "update web",
		},
		{
			summary: "tee of a new file",
			do:      func(c *client) { c.over("m/new.yaml", yaml("new")) },
			want:    "create new",
		},
		{summary: "touch", do: func(c *client) {
			c.open("m/web.yaml", os.O_WRONLY|os.O_CREATE, 0o644)
			c.touch("m/web.yaml")
			c.close("m/web.yaml")
		}},
		{summary: "chmod", do: func(c *client) { c.chmod("m/web.yaml", 0o600); c.chmod("m/web.yaml", 0o644) }},
		{summary: "the same bytes again", do: func(c *client) { c.over("m/web.yaml", webBefore) }},
		{summary: "the same meaning in other words", do: func(c *client) {
			c.over("m/web.yaml", "# of the shop\n"+strings.Replace(webBefore, "{pids: 5}", "\n    pids: 5 # processes", 1)+"  suspend: false\n")
		}},
		{summary: "CRLF", do: func(c *client) { c.over("m/web.yaml", strings.ReplaceAll(webBefore, "\n", "\r\n")) }},
		{summary: "a byte order mark", do: func(c *client) { c.over("m/web.yaml", "\ufeff"+webBefore) }},
		{summary: "a file is renamed", do: func(c *client) { c.rename("m/web.yaml", "m/shop.yaml") }, want: "adopt web"},
		{summary: "mv into a folder", do: func(c *client) { c.mkdir("m/team"); c.rename("m/web.yaml", "m/team/web.yaml") }, want: "adopt web"},
		{
			summary: "mv into a folder on another file system: a copy, then the original goes",
			do: func(c *client) {
				c.mkdir("m/team")
				c.over("m/team/web.yaml", webBefore)
				c.touch("m/team/web.yaml")
				c.unlink("m/web.yaml")
			},
			want: "adopt web",
		},
		{summary: "a folder is renamed", before: map[string]string{"m/a/web.yaml": webBefore, "m/other.yaml": otherText},
			do: func(c *client) { c.rename("m/a", "m/b") }, want: "adopt web"},
		{summary: "the whole directory is moved away and back", do: func(c *client) { c.rename("m", "away"); c.rename("away", "m") }},
		{
			summary: "the directory is replaced by another with one change",
			do: func(c *client) {
				c.mkdir("next")
				c.create("next/web.yaml", webAfter, 0o644)
				c.create("next/other.yaml", otherText, 0o644)
				c.rename("m", "last")
				c.rename("next", "m")
			},
			want: "update web",
		},
		{
			summary: "a hard link is a second claim, and takes over when the first name goes",
			do:      func(c *client) { c.link("m/web.yaml", "m/web2.yaml"); c.unlink("m/web.yaml") },
			want:    "adopt web",
		},
		{
			summary: "a hard link stays: the incumbent keeps the name",
			do:      func(c *client) { c.link("m/web.yaml", "m/a.yaml") },
			invalid: `a.yaml:3:18: metadata.name: "web" is taken by DIR/web.yaml:1: one name, one manifest; rename or delete one`,
		},
		{
			summary: "a hard link from outside is written through",
			do:      func(c *client) { c.link("m/web.yaml", "outside"); c.over("outside", webAfter) },
			want:    "update web",
		},
		{
			summary: "a FIFO, a socket, a folder named as a file",
			do: func(c *client) {
				c.done(unix.Mkfifo(c.path("m/pipe.yaml"), 0o600))
				c.mkdir("m/x.yaml")
				c.create("m/x.yaml/new.yaml", yaml("new"), 0o644)
			},
			want:    "create new",
			invalid: "pipe.yaml: not a regular file: neither read nor followed",
		},
		{
			summary: "a folder takes the place of a file: what runs stays for the settle time",
			do:      func(c *client) { c.unlink("m/web.yaml"); c.mkdir("m/web.yaml") },
			why:     "manifest gone from DIR, removed in 5s",
		},
		{
			summary: "a file of 100 MB",
			do: func(c *client) {
				c.open("m/web.yaml", os.O_WRONLY, 0)
				c.done(c.fds["m/web.yaml"].Truncate(100 << 20))
				c.close("m/web.yaml")
			},
			why: "web.yaml: larger than 1024 KiB; split it into several files",
		},
		{summary: "not UTF-8", do: func(c *client) { c.over("m/web.yaml", strings.Replace(webAfter, "infinity", "infinit\xe9", 1)) },
			why: "web.yaml:7:27: holds a byte (0xe9) that is not UTF-8; save it as UTF-8"},
		{summary: "a bomb of anchors", do: func(c *client) { c.over("m/web.yaml", bomb()) }, why: "web.yaml:5:8: the aliases of this document stand for more than 10000 values; write some of them out"},
		{summary: "emptied", do: func(c *client) { c.over("m/web.yaml", "") }, why: "web.yaml:1: holds no manifest (the file is empty or has only comments)"},
		{summary: "a merge conflict", do: func(c *client) {
			c.over("m/web.yaml", strings.Replace(webAfter, "  resources", "<<<<<<< HEAD\n  resources", 1))
		}, why: "web.yaml:8:1: holds a merge conflict (<<<<<<<); solve it and commit"},
		{
			summary: "git: unlink and create anew, index.lock and all",
			do: func(c *client) {
				c.mkdir("m/.git")
				c.create("m/.git/index.lock", "DIRC", 0o644)
				c.unlink("m/web.yaml")
				c.create("m/web.yaml", webAfter, 0o644)
				c.rename("m/.git/index.lock", "m/.git/index")
			},
			want: "update web",
		},
		{
			summary: "git-sync: a new worktree, and the link is turned",
			before:  map[string]string{"revs/1/web.yaml": webBefore, "revs/1/other.yaml": otherText, "m": "-> revs/1"},
			do: func(c *client) {
				c.mkdir("revs/2")
				c.create("revs/2/web.yaml", webAfter, 0o644)
				c.create("revs/2/other.yaml", otherText, 0o644)
				c.symlink("revs/2", "tmp-link")
				c.rename("tmp-link", "m")
				c.unlink("revs/1/web.yaml")
				c.unlink("revs/1/other.yaml")
				c.unlink("revs/1")
			},
			want: "update web",
		},
		{
			summary: "a ConfigMap's volume: the link ..data is turned",
			before: map[string]string{
				"m/..2026_1/web.yaml": webBefore, "m/..2026_1/other.yaml": otherText,
				"m/..data": "-> ..2026_1", "m/web.yaml": "-> ..data/web.yaml", "m/other.yaml": "-> ..data/other.yaml",
			},
			do: func(c *client) {
				c.mkdir("m/..2026_2")
				c.create("m/..2026_2/web.yaml", webAfter, 0o644)
				c.create("m/..2026_2/other.yaml", otherText, 0o644)
				c.symlink("..2026_2", "m/..data_tmp")
				c.rename("m/..data_tmp", "m/..data")
				c.unlink("m/..2026_1/web.yaml")
				c.unlink("m/..2026_1/other.yaml")
				c.unlink("m/..2026_1")
			},
			want: "update web",
		},
		{
			summary: "ansible's atomic move: a temporary name in the directory, then renamed over",
			do: func(c *client) {
				c.create("m/.ansible_tmpk2l9web.yaml", webAfter, 0o600)
				c.chmod("m/.ansible_tmpk2l9web.yaml", 0o644)
				c.rename("m/.ansible_tmpk2l9web.yaml", "m/web.yaml")
			},
			want: "update web",
		},
		{
			summary: "dpkg: .dpkg-new renamed over, .dpkg-old kept",
			do: func(c *client) {
				c.create("m/web.yaml.dpkg-new", webAfter, 0o644)
				c.link("m/web.yaml", "m/web.yaml.dpkg-old")
				c.rename("m/web.yaml.dpkg-new", "m/web.yaml")
			},
			want: "update web",
		},
	} {
		for _, between := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", story.summary, between), func(t *testing.T) {
				files := story.before
				if files == nil {
					files = map[string]string{"m/web.yaml": webBefore, "m/other.yaml": otherText}
				}
				c := &client{stage: newStage(t, files), between: between, fds: map[string]*os.File{}}
				began := time.Now()
				story.do(c)
				c.settle()
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("took %v", took)
				}
				if got := c.said(); got != story.want {
					t.Errorf("actions %q, want %q", got, story.want)
				}
				c.compare(story.want, story.why, story.invalid)
			})
		}
	}
}

// compare holds what runs and what ps says against what is wanted.
func (c *client) compare(want, why, invalid string) {
	c.t.Helper()
	pids := int64(5)
	if strings.Contains(want, "update web") {
		pids = 6
	}
	if got := *c.applied("web").Resources.Pids; got != pids {
		c.t.Errorf("pids %d, want %d", got, pids)
	}
	in := func(text string) string { return strings.ReplaceAll(text, c.dir, "DIR") }
	for _, v := range c.e.views() {
		switch {
		case v.Name == "web":
			if in(v.Why) != why {
				c.t.Errorf("web: %q, want %q", in(v.Why), why)
			}
		case v.State == view.Invalid:
			if in(v.Why) != invalid {
				c.t.Errorf("invalid: %q, want %q", in(v.Why), invalid)
			}
			invalid = ""
		case v.Why != "":
			c.t.Errorf("%s: %s", v.Name, v.Why)
		}
	}
	if invalid != "" {
		c.t.Errorf("nothing says %q", invalid)
	}

}
