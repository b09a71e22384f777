package view

import (
	"strings"
	"testing"
)

// However many containers expose directories, there is one note.
func TestExposedNotes(t *testing.T) {
	const any = "where any user of this host can run a set-user-ID file that "
	many := map[string][]string{}
	for _, name := range strings.Split("abcdefgh", "") {
		many[name] = []string{"/srv/" + name}
	}
	for _, row := range []struct {
		exposed map[string][]string
		want    string
	}{
		{nil, ""},
		{map[string][]string{"web": {"/srv/web"}}, "web: its root can write to /srv/web, " + any + "it leaves; put that below a directory of mode 0700"},
		{map[string][]string{"web": {"/srv/web", "/data"}, "db": {"/data"}}, "db, web: their roots can write to directories " + any + "they leave; put these below directories of mode 0700: /data, /srv/web"},
		{many, "a, b, c, d, e and 3 more: their roots can write to directories " + any + "they leave; put these below directories of mode 0700: /srv/a, /srv/b, /srv/c, /srv/d, /srv/e and 3 more"},
	} {
		if got := strings.Join(ExposedNotes(row.exposed), "\n"); got != row.want {
			t.Errorf("got  %s\nwant %s", got, row.want)
		}
	}
}
