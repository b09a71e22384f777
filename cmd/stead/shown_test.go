package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// No output has times finer than milliseconds.
func TestTimesAreShort(t *testing.T) {
	h := newHost(t)
	h.write("web.yaml", manifest("web", ""))
	h.write("db.yaml", manifest("db", "  restart: {policy: never}\n"))
	h.startDaemon()
	h.ok("apply")
	h.untilLogged("web", "I am web")
	h.ok("stop", "db")
	h.ok("hold", "web")
	t.Cleanup(func() { h.ok("release", "web") })
	fine := regexp.MustCompile(`:[0-9]{2}\.[0-9]{4,}`)
	for _, verb := range []string{"ps -o json", "ps -o wide", "ps -o yaml", "status -o json", "status web -o json", "status", "inspect web", "events -o json", "events", "logs -t web"} {
		c := h.stead(strings.Fields(verb)...)
		if found := fine.FindString(c.out); found != "" {
			t.Errorf("stead %s prints a time with %s:\n%s", verb, found, c.out)
		}
		if !regexp.MustCompile(`[0-9]{2}:[0-9]{2}`).MatchString(c.out) && verb != "ps -o wide" {
			t.Errorf("stead %s prints no time:\n%s%s", verb, c.out, c.err)
		}
	}
}

// validate prints paths as they were given.
func TestValidatePaths(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/m/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/m/a.yaml", manifest("a", "  nonsuch: 1\n"))
	writeFile(t, dir+"/m/b.yaml", manifest("b", ""))
	writeFile(t, dir+"/m/sub/b.yaml", manifest("b", "  files: {/x: {source: ./none}}\n"))
	writeFile(t, dir+"/m/c.yaml", "")
	for _, row := range []struct{ in, arg, prefix, dir string }{
		{"", ".", "", "."},
		{"", "./", "", "."},
		{"..", "m", "m/", "m"},
		{"sub", "..", "../", ".."},
		{"", dir + "/m", dir + "/m/", dir + "/m"},
	} {
		t.Run(row.arg, func(t *testing.T) {
			t.Chdir(dir + "/m/" + row.in)
			var errs strings.Builder
			code := (&app{in: strings.NewReader(""), out: &output{file: nil}, err: &errs}).run(t.Context(), []string{"validate", row.arg})
			want := []string{row.prefix + "a.yaml:8:3: spec.nonsuch: ", row.prefix + "c.yaml:1: holds no manifest", row.prefix + "sub/b.yaml:8:24: spec.files[/x].source: can't read " + row.prefix + "sub/none: "}
			if code != exitInvalid {
				t.Errorf("code %d", code)
			}
			for _, w := range want {
				if !strings.Contains("\n"+errs.String(), "\n"+w) {
					t.Errorf("no line %q in\n%s", w, errs.String())
				}
			}
			if row.prefix != dir+"/m/" && strings.Contains(errs.String(), dir) {
				t.Errorf("absolute paths:\n%s", errs.String())
			}
		})
	}
}
