package spec

import (
	"reflect"
	"testing"
)

// What a manifest leaves absent comes from the image; what it says wins.
func TestImageConfigFill(t *testing.T) {
	image := &ImageConfig{
		Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}, Env: []string{"PATH=/opt/bin", "A=image", "EMPTY="},
		User: "app", WorkingDir: "/srv", StopSignal: "SIGQUIT",
	}
	for _, c := range []struct {
		summary  string
		image    *ImageConfig
		manifest Spec
		want     Spec
	}{
		{"nothing", image, Spec{}, Spec{
			Command: []string{"/entry"}, Args: []string{"serve"}, Env: map[string]Text{"PATH": "/opt/bin", "A": "image", "EMPTY": ""},
			User: "app", WorkingDir: "/srv", Stop: Stop{Signal: "QUIT"},
		}},
		{"args replace the arguments only", &ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}},
			Spec{Args: []string{"check"}}, Spec{Command: []string{"/entry"}, Args: []string{"check"}}},
		{"command replaces both", &ImageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}},
			Spec{Command: []string{"/bin/sh"}}, Spec{Command: []string{"/bin/sh"}}},
		{"an image without an entrypoint", &ImageConfig{Cmd: []string{"bash", "-l"}}, Spec{}, Spec{Command: []string{"bash", "-l"}}},
		{"args for an image without an entrypoint", &ImageConfig{Cmd: []string{"bash"}}, Spec{Args: []string{"id"}}, Spec{Command: []string{"id"}}},
		{"all is said", image,
			Spec{Command: []string{"x"}, Env: map[string]Text{"A": "b"}, User: "0", WorkingDir: "/", Stop: Stop{Signal: "TERM"}},
			Spec{Command: []string{"x"}, Env: map[string]Text{"PATH": "/opt/bin", "A": "b", "EMPTY": ""}, User: "0", WorkingDir: "/", Stop: Stop{Signal: "TERM"}}},
		{"no image", nil, Spec{Command: []string{"x"}}, Spec{Command: []string{"x"}}},
	} {
		t.Run(c.summary, func(t *testing.T) {
			m := &Container{Spec: c.manifest}
			before := *m
			if got := c.image.Fill(m); !reflect.DeepEqual(got.Spec, c.want) {
				t.Errorf("filled: %+v\nwant:   %+v", got.Spec, c.want)
			}
			if !reflect.DeepEqual(*m, before) {
				t.Error("the manifest itself was changed")
			}
		})
	}
}
