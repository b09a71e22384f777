// Package registry reads images from registries (distribution-spec): references, logins, and
// requests that survive a bad network. It knows nothing of the store; what it returns is
// unchecked unless it says otherwise.
package registry

import (
	"errors"
	"fmt"
	"strings"
)

// Reference is a complete reference of an image.
type Reference struct {
	Host       string // with a port if it has one: docker.io, localhost:5000
	Repository string // library/nginx
	Tag        string // "" if it has none
	Digest     string // "" if it has none
}

// IsReference reports whether a name is meant as a reference, and not as the name of a local
// image.
func IsReference(name string) bool { return strings.ContainsAny(name, "/:@") }

// Parse reads a complete reference. The error of a short one holds the complete one.
func Parse(text string) (Reference, error) {
	r, err := parse(text)
	if err != nil {
		return r, fmt.Errorf("image reference %.300q: %w", text, err)
	}
	return r, nil
}

func parse(text string) (Reference, error) {
	var r Reference
	rest, digest, hasDigest := strings.Cut(text, "@")
	if hasDigest {
		hex, ok := strings.CutPrefix(digest, "sha256:")
		if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
			return r, errors.New("want sha256: and 64 hexadecimal digits after @")
		}
		r.Digest = digest
	}
	host, repository, ok := strings.Cut(rest, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return r, fmt.Errorf("it has no registry; did you mean %s?", complete(text))
	}
	r.Host = host
	if i := strings.LastIndexByte(repository, ':'); i >= 0 {
		repository, r.Tag = repository[:i], repository[i+1:]
		if !isTag(r.Tag) {
			return r, fmt.Errorf("%.130q is no tag", r.Tag)
		}
	}
	r.Repository = repository
	switch {
	case !isHost(host):
		return r, fmt.Errorf("%.100q is no registry", host)
	case !isRepository(repository):
		return r, fmt.Errorf("%.200q is no repository: want a-z, 0-9 and single . _ - between them, in parts separated by /", repository)
	case r.Tag == "" && r.Digest == "":
		return r, fmt.Errorf("it has no tag; did you mean %s:latest?", text)
	case host == "docker.io" && !strings.Contains(repository, "/"):
		return r, fmt.Errorf("did you mean docker.io/library/%s?", strings.TrimPrefix(text, "docker.io/"))
	}
	return r, nil
}

// complete returns the reference that a short one stands for with Docker.
func complete(short string) string {
	repository, _, _ := strings.Cut(short, "@")
	if !strings.Contains(repository, "/") {
		short = "library/" + short
	}
	return "docker.io/" + short
}

func isHost(s string) bool {
	return s != "" && len(s) <= 255 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]") == ""
}

func isTag(s string) bool {
	return s != "" && len(s) <= 128 && s[0] != '.' && s[0] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

func isRepository(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	for part := range strings.SplitSeq(s, "/") {
		if part == "" || strings.Trim(part, letters+"._-") != "" || strings.Trim(part[:1]+part[len(part)-1:], letters) != "" || strings.Contains(part, "..") {
			return false
		}
	}
	return len(s) <= 255
}

// manifest returns the last part of the address of a manifest.
func (r Reference) manifest() string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}
