package spec

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// IsReference reports whether a name of an image is a reference to one in a registry, and not
// the name of a local image.
func IsReference(name string) bool { return strings.ContainsAny(name, "/:@") }

// CheckImage returns an error unless name is the name of a local image, or a complete reference
// to an image in a registry.
func CheckImage(name string) error {
	if !IsReference(name) {
		return checkLocalImage(name)
	}
	if i := strings.Index(name, "://"); i >= 0 {
		return fmt.Errorf("want a reference without %s, such as docker.io/library/nginx:1.27", escape(name[:i+3], 20))
	}
	whole := completeReference(name)
	if !imageForms().reference.MatchString(whole) || len(name) > 400 {
		if lower := strings.ToLower(whole); imageForms().reference.MatchString(lower) && lower != whole {
			return errors.New("want the repository in lower case")
		}
		return errors.New("want a reference such as docker.io/library/nginx:1.27, or the name of a local image")
	}
	if whole != name {
		return fmt.Errorf("want the whole reference: %s; the name of a local image holds no \":\" and no \"/\"", escape(whole, 300))
	}
	return nil
}

func checkLocalImage(name string) error {
	if !imageForms().local.MatchString(name) || len(name) > 63 {
		return errors.New("want the name of a local image, of at most 63 of a-z, 0-9, '-', '_' and '.', or a complete reference such as docker.io/library/nginx:1.27")
	}
	return nil
}

// completeReference returns a reference with the registry, the repository and the tag that other
// tools add.
func completeReference(name string) string {
	rest, digest, pinned := strings.Cut(name, "@")
	registry, repository, several := strings.Cut(rest, "/")
	if !several || !strings.ContainsAny(registry, ".:") && registry != "localhost" {
		registry, repository = "docker.io", rest
	}
	if registry == "docker.io" && !strings.Contains(repository, "/") {
		repository = "library/" + repository
	}
	whole := registry + "/" + repository
	switch tagged := strings.Contains(repository, ":"); {
	case pinned:
		whole += "@" + digest
	case !tagged:
		whole += ":latest"
	}
	return whole
}

// imageForms are the forms of names of images. They are compiled at first use, so that a run of
// the program that needs none does not pay for them.
var imageForms = sync.OnceValue(func() (f struct{ local, reference, digest *regexp.Regexp }) {
	const (
		part   = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*`
		host   = `(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?`
		digest = `sha256:[0-9a-f]{64}`
	)
	f.local = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?$`)
	f.reference = regexp.MustCompile(`^` + host + `(?:/` + part + `)+(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?(?:@` + digest + `)?$`)
	f.digest = regexp.MustCompile(`^` + digest + `$`)
	return f
})

// checkDigest returns an error unless text is a digest.
func checkDigest(text string) error {
	if !imageForms().digest.MatchString(text) {
		return errors.New("want sha256: and 64 hexadecimal digits")
	}
	return nil
}
