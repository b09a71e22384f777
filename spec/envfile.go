package spec

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxEnvFile is the maximum size of an environment file in bytes.
const MaxEnvFile = 1 << 20

// ParseEnvFile reads an environment file: NAME=VALUE on each line, comments that begin with #,
// and blank lines. It returns NAME=VALUE for each variable; of two of one name the last counts.
// No error tells a value.
func ParseEnvFile(file string, data []byte) (vars []string, errs []*Error) {
	fail := func(line int, format string, args ...any) {
		if len(errs) < maxErrors {
			errs = append(errs, &Error{File: file, Line: line, Message: fmt.Sprintf(format, args...)})
		}
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		text := strings.TrimSuffix(string(line), "\r")
		if trimmed := strings.TrimLeft(text, " \t"); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if name, value, err := parseEnvLine(text); err != nil {
			fail(i+1, "%s", err)
		} else {
			vars = append(vars, name+"="+value)
		}
	}
	return vars, errs
}

// parseEnvLine reads one line of an environment file.
func parseEnvLine(line string) (name, value string, err error) {
	name, value, found := strings.Cut(line, "=")
	bare := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(name), "export "))
	switch {
	case !utf8.ValidString(line) || strings.ContainsRune(line, 0):
		return "", "", fmt.Errorf("want text in UTF-8")
	case !found:
		return "", "", fmt.Errorf("want NAME=VALUE; a comment begins with #")
	case strings.HasPrefix(strings.TrimSpace(name), "export "):
		return "", "", fmt.Errorf("found export; write %s=VALUE", escape(bare, 60))
	case name != bare:
		return "", "", fmt.Errorf("found spaces around the name; write %s=VALUE", escape(bare, 60))
	}
	if err := checkEnvKey(name); err != nil {
		return "", "", fmt.Errorf("%s: %w", quote(name), err)
	}
	unquoted, quoted, err := unquoteEnv(value)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("%s: %w", escape(name, 60), err)
	case !quoted && strings.TrimSpace(value) != value:
		return "", "", fmt.Errorf("%s: found spaces at an end of the value; remove them, or quote it: %s='VALUE'", escape(name, 60), escape(name, 60))
	case !quoted && strings.Contains(value, " #"):
		return "", "", fmt.Errorf("%s: found a comment behind the value; write it on a line of its own, or quote the value if the # belongs to it: %s='VALUE'", escape(name, 60), escape(name, 60))
	case value == "" || quoted && value[0] == '\'':
	case strings.Contains(unquoted, "${") || strings.Contains(unquoted, "$("):
		return "", "", fmt.Errorf("%s: nothing is expanded in the value; write the result, or if it is meant as it stands: %s='VALUE'", escape(name, 60), escape(name, 60))
	}
	if len(name)+1+len(unquoted) > maxWord {
		return "", "", fmt.Errorf("%s: is %d bytes; the kernel takes at most %d for one variable", escape(name, 60), len(unquoted), maxWord-len(name)-1)
	}
	return name, unquoted, nil
}

// unquoteEnv removes one pair of quotes around a whole value.
func unquoteEnv(value string) (unquoted string, quoted bool, err error) {
	if value == "" || value[0] != '\'' && value[0] != '"' {
		return value, false, nil
	}
	mark := value[:1]
	inner, closed := strings.CutSuffix(value[1:], mark)
	if !closed || len(value) == 1 {
		return "", false, fmt.Errorf("found a %s without another at the end of the line; a value is one line", mark)
	}
	if strings.Contains(inner, mark) {
		return "", false, fmt.Errorf("found a %s inside the quotes; quote the value with the other kind", mark)
	}
	return inner, true, nil
}

// ParseSecret returns the value of a secret from the content of its file: without one newline
// at its end.
func ParseSecret(data []byte) (string, error) {
	value := strings.TrimSuffix(string(data), "\n")
	switch {
	case strings.ContainsRune(value, 0):
		return "", fmt.Errorf("holds a NUL character, which no variable can have; use files for it")
	case len(value) > maxWord-256:
		return "", fmt.Errorf("is %d bytes; a variable has at most %d; use files for it", len(value), maxWord-256)
	}
	return value, nil
}
