package main

import "testing"

// Each kind of user is named once.
func TestUsersText(t *testing.T) {
	for _, row := range []struct {
		users []string
		want  string
	}{
		{nil, ""},
		{[]string{"container web-0"}, "container web-0"},
		{[]string{"container web-0", "container web-1", "image debian-12", "removed web@20261123T041500Z"}, "container web-0, web-1; image debian-12; removed web@20261123T041500Z"},
	} {
		if got := usersText(row.users); got != row.want {
			t.Errorf("%q: got %q, want %q", row.users, got, row.want)
		}
	}
}
