package spec

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strconv"
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

// Fill returns a copy of m in which what the manifest leaves absent comes from the image, or is
// the default. Command and args have the meaning that Kubernetes gives them: command replaces
// the entrypoint and the arguments of the image, args only the arguments. The command stays
// empty if neither names one. A nil ImageConfig says nothing.
func (c *ImageConfig) Fill(m *Container) *Container {
	filled := *m
	s := &filled.Spec
	if c != nil {
		c.fillCommand(s)
		s.Env = c.env(s.Env)
		s.User = cmp.Or(s.User, Text(c.User))
		if s.WorkingDir == "" && c.WorkingDir != "" {
			s.WorkingDir = path.Clean("/" + c.WorkingDir)
		}
		s.Stop.Signal = cmp.Or(s.Stop.Signal, signalName(c.StopSignal))
	}
	s.User, s.WorkingDir, s.Stop.Signal = cmp.Or(s.User, "0"), cmp.Or(s.WorkingDir, "/"), cmp.Or(s.Stop.Signal, "TERM")
	return &filled
}

// fillCommand gives a manifest without a command that of the image.
func (c *ImageConfig) fillCommand(s *Spec) {
	if len(s.Command) > 0 {
		return
	}
	s.Command = slices.Clone(c.Entrypoint)
	if len(s.Args) == 0 {
		s.Args = slices.Clone(c.Cmd)
	}
	if len(s.Command) == 0 { // an image may have arguments only
		s.Command, s.Args = s.Args, nil
	}
}

// env returns the variables of the image with those of the manifest over them.
func (c *ImageConfig) env(over map[string]Text) map[string]Text {
	all := map[string]Text{}
	for _, e := range c.Env {
		if name, value, ok := strings.Cut(e, "="); ok && checkEnvKey(name) == nil {
			all[name] = Text(value)
		}
	}
	maps.Copy(all, over)
	return nilIfEmpty(all)
}

// signalName returns the name of a signal as an image names it: SIGQUIT, QUIT or 3. It returns
// "" for what is none.
func signalName(text string) string {
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if n, err := strconv.Atoi(name); err == nil {
		const lastClassic, firstRealtime = 31, 34
		switch names := signalNames(); {
		case n >= 1 && n <= lastClassic:
			name = names[n-1]
		case n == firstRealtime:
			name = "RTMIN"
		case n > firstRealtime:
			name = "RTMIN+" + strconv.Itoa(n-firstRealtime)
		}
	}
	if !isSignal(name) {
		return ""
	}
	return name
}
