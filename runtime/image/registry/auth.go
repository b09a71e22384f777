package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"
)

// login is what is sent to a registry to say who asks. The zero value is nobody.
type login struct {
	user, password string
	identityToken  string
	from           string // the file and entry, for errors
}

// authFile is a file of logins as docker and the containers tools write it.
type authFile struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
	} `json:"auths"`
	CredHelpers map[string]string `json:"credHelpers"`
	CredsStore  string            `json:"credsStore"`
}

// authFiles returns where logins are looked for, in this order.
func authFiles() []string {
	if f := os.Getenv("REGISTRY_AUTH_FILE"); f != "" {
		return []string{f}
	}
	var files []string
	runtimeDir := os.Getenv("XDG_RUNTIME_DIR")
	if runtimeDir != "" {
		runtimeDir += "/containers"
	} else {
		runtimeDir = fmt.Sprintf("/run/containers/%d", os.Getuid())
	}
	files = append(files, runtimeDir+"/auth.json")
	home, err := os.UserHomeDir()
	if err != nil { // no HOME, as in a unit of systemd
		if u, err := user.Current(); err == nil {
			home = u.HomeDir
		}
	}
	config := os.Getenv("XDG_CONFIG_HOME")
	if config == "" && home != "" {
		config = home + "/.config"
	}
	if config != "" {
		files = append(files, config+"/containers/auth.json")
	}
	docker := os.Getenv("DOCKER_CONFIG")
	if docker == "" && home != "" {
		docker = home + "/.docker"
	}
	if docker != "" {
		files = append(files, docker+"/config.json")
	}
	return files
}

// findLogin returns the login for a repository of a registry.
func findLogin(ctx context.Context, host, repository string) (login, error) {
	for _, file := range authFiles() {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return login{}, fmt.Errorf("read logins: %w", err)
		}
		var a authFile
		if err := json.Unmarshal(b, &a); err != nil {
			return login{}, fmt.Errorf("read logins from %s: %w", file, err)
		}
		l, found, err := a.find(ctx, file, host, repository)
		if found || err != nil {
			return l, err
		}
	}
	return login{}, nil
}

// find looks for the most precise entry: host/path, then host.
func (a authFile) find(ctx context.Context, file, host, repository string) (login, bool, error) {
	for key := host + "/" + repository; ; key = filepath.Dir(key) {
		if helper := a.CredHelpers[key]; helper != "" {
			return ask(ctx, file, helper, key)
		}
		for name, e := range a.Auths {
			if normal(name) != key || e.Auth == "" && e.IdentityToken == "" && e.Password == "" {
				continue
			}
			l := login{user: e.Username, password: e.Password, identityToken: e.IdentityToken, from: fmt.Sprintf("%s (entry %s)", file, name)}
			if e.Auth != "" {
				text, err := base64.StdEncoding.DecodeString(strings.TrimRight(e.Auth, "\x00"))
				user, password, ok := strings.Cut(strings.TrimRight(string(text), "\x00"), ":")
				if err != nil || !ok {
					return login{}, false, fmt.Errorf("read logins from %s: entry %s is not the base64 of user:password", file, name)
				}
				l.user, l.password = user, password
			}
			return l, true, nil
		}
		if key == host {
			break
		}
	}
	if a.CredsStore != "" {
		return ask(ctx, file, a.CredsStore, host)
	}
	return login{}, false, nil
}

// dockerHub is how docker names Docker Hub in its file.
const dockerHub = "https://index.docker.io/v1/"

// normal returns the host, and the path if there is one, of an entry in a file of docker.
func normal(key string) string {
	if key == dockerHub || key == "index.docker.io" || key == "registry-1.docker.io" {
		return "docker.io"
	}
	if rest, ok := strings.CutPrefix(key, "https://"); ok {
		key, _, _ = strings.Cut(rest, "/")
	} else if rest, ok := strings.CutPrefix(key, "http://"); ok {
		key, _, _ = strings.Cut(rest, "/")
	}
	return strings.TrimSuffix(key, "/")
}

// ask runs a credential helper (docker-credential-NAME get).
func ask(ctx context.Context, file, helper, key string) (login, bool, error) {
	name := "docker-credential-" + helper
	if strings.ContainsRune(helper, '/') {
		return login{}, false, fmt.Errorf("%s names the credential helper %q, which is no name", file, helper)
	}
	server := key
	if key == "docker.io" {
		server = dockerHub
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, "get")
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(server)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return login{}, false, fmt.Errorf("%s names the credential helper %s for %s, which is not installed; install it, or remove the entry", file, name, key)
	}
	if err != nil {
		said := strings.TrimSpace(out.String() + errs.String())
		if strings.Contains(said, "not found") { // what helpers say of a server that they do not know
			return login{}, false, nil
		}
		return login{}, false, fmt.Errorf("credential helper %s (of %s) for %s: %w: %.300s", name, file, key, err, said)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return login{}, false, fmt.Errorf("credential helper %s (of %s) for %s: %w", name, file, key, err)
	}
	l := login{user: answer.Username, password: answer.Secret, from: fmt.Sprintf("credential helper %s (of %s)", name, file)}
	if answer.Username == "<token>" {
		l = login{identityToken: answer.Secret, from: l.from}
	}
	return l, true, nil
}
