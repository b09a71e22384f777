package spec

import (
	"slices"
	"strings"
)

// ImageConfig is what an image says about the program in it. It gives the values of what a
// manifest leaves absent.
type ImageConfig struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"` // NAME=VALUE
	User       string   `json:"user,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	StopSignal string   `json:"stopSignal,omitempty"` // as in the image: SIGQUIT, QUIT or 3
	Volumes    []string `json:"volumes,omitempty"`    // sorted paths inside the container
}

// Fill returns a copy of m in which what the manifest leaves absent comes from the image.
// Command and args have the meaning that Kubernetes gives them: command replaces the
// entrypoint and the arguments of the image, args only the arguments. A nil ImageConfig
// fills nothing.
func (c *ImageConfig) Fill(m *Container) *Container {
	filled := *m
	if c == nil {
		return &filled
	}
	s := &filled.Spec
	if len(s.Command) == 0 {
		s.Command = slices.Clone(c.Entrypoint)
		if len(s.Args) == 0 {
			s.Args = slices.Clone(c.Cmd)
		}
		if len(s.Command) == 0 { // an image may have arguments only
			s.Command, s.Args = s.Args, nil
		}
	}
	s.Env = map[string]Text{}
	for _, e := range c.Env {
		if name, value, ok := strings.Cut(e, "="); ok && name != "" {
			s.Env[name] = Text(value)
		}
	}
	for name, value := range m.Spec.Env {
		s.Env[name] = value
	}
	s.Env = nilIfEmpty(s.Env)
	if s.User == "" {
		s.User = Text(c.User)
	}
	if s.WorkingDir == "" {
		s.WorkingDir = c.WorkingDir
	}
	if s.Stop.Signal == "" {
		s.Stop.Signal = strings.TrimPrefix(strings.ToUpper(c.StopSignal), "SIG")
	}
	return &filled
}
