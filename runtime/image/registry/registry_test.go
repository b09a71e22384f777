package registry

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for text, want := range map[string]Reference{
		"docker.io/library/nginx:1.27":             {"docker.io", "library/nginx", "1.27", ""},
		"localhost:5000/a":                         {},
		"localhost:5000/a:1":                       {"localhost:5000", "a", "1", ""},
		"ghcr.io/o/r/x@" + digest:                  {"ghcr.io", "o/r/x", "", digest},
		"docker.io/library/nginx:1.27@" + digest:   {"docker.io", "library/nginx", "1.27", digest},
		"docker.io/library/nginx@sha256:../../../": {},
		"docker.io/../../x:1":                      {},
		"docker.io/a//b:1":                         {},
		"docker.io/library/Nginx:1":                {},
		"docker.io/library/nginx:-":                {},
		"exa mple.com/a:1":                         {},
	} {
		got, err := Parse(text)
		if want != (Reference{}) && (err != nil || got != want) || want == (Reference{}) && err == nil {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, hint := range map[string]string{
		"nginx:1.27":        "did you mean docker.io/library/nginx:1.27?",
		"grafana/grafana:9": "did you mean docker.io/grafana/grafana:9?",
		"docker.io/nginx:1": "did you mean docker.io/library/nginx:1?",
		"ghcr.io/o/r":       "it has no tag; did you mean ghcr.io/o/r:latest?",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: %v, want %q", text, err, hint)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "Sat, 28 Nov 2026 12:01:00 GMT": time.Minute, "Sat, 28 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// Logins come from the files of docker and of the containers tools, from the most precise entry,
// and from credential helpers. HOME need not be set.
func TestFindLogin(t *testing.T) {
	home := t.TempDir()
	bin := filepath.Join(home, "bin")
	write := func(file, text string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	write(bin+"/docker-credential-good", "#!/bin/sh\nread server; echo \"{\\\"Username\\\":\\\"helped\\\",\\\"Secret\\\":\\\"$server\\\"}\"\n", 0o755)
	write(bin+"/docker-credential-none", "#!/bin/sh\necho credentials not found in native keychain; exit 1\n", 0o755)
	write(bin+"/docker-credential-bad", "#!/bin/sh\necho broken >&2; exit 1\n", 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("XDG_RUNTIME_DIR", home+"/run")
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("DOCKER_CONFIG", "")
	t.Setenv("HOME", home)
	write(home+"/.config/containers/auth.json", `{"auths":{"example.com/team":{"auth":"`+encoded("team:a:b")+`"},"example.com":{"auth":"`+encoded("all:x")+`"}}}`, 0o600)
	write(home+"/.docker/config.json", `{"auths":{"https://index.docker.io/v1/":{"auth":"`+encoded("hub:h")+`"},"token.example.com":{"identitytoken":"t"}},
		"credHelpers":{"help.example.com":"good","none.example.com":"none","bad.example.com":"bad","gone.example.com":"gone","evil.example.com":"../x"}}`, 0o600)
	for _, c := range []struct{ host, repository, want, err string }{
		{"example.com", "team/app", "team a:b ", ""},
		{"example.com", "other/app", "all x ", ""},
		{"docker.io", "library/nginx", "hub h ", ""},
		{"token.example.com", "a", "  t", ""},
		{"help.example.com", "a", "helped help.example.com ", ""},
		{"none.example.com", "a", "  ", ""},
		{"unknown.example.com", "a", "  ", ""},
		{"bad.example.com", "a", "", "credential helper docker-credential-bad (of " + home + "/.docker/config.json) for bad.example.com: exit status 1: broken"},
		{"gone.example.com", "a", "", "names the credential helper docker-credential-gone for gone.example.com, which is not installed"},
		{"evil.example.com", "a", "", "which is no name"},
	} {
		l, err := findLogin(t.Context(), c.host, c.repository)
		if got := l.user + " " + l.password + " " + l.identityToken; c.err == "" && (err != nil || got != c.want) {
			t.Errorf("%s/%s: %q, %v, want %q", c.host, c.repository, got, err, c.want)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s/%s: %v, want %q", c.host, c.repository, err, c.err)
		}
	}
	os.Unsetenv("HOME")
	if _, err := findLogin(t.Context(), "unknown.example.com", "a"); err != nil {
		t.Errorf("without HOME: %v", err)
	}
	t.Setenv("REGISTRY_AUTH_FILE", home+"/broken")
	write(home+"/broken", "{", 0o600)
	if _, err := findLogin(t.Context(), "example.com", "a"); err == nil || !strings.Contains(err.Error(), home+"/broken") {
		t.Errorf("a broken file: %v", err)
	}
}
