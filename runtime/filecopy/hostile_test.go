package filecopy

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
)

// hostile returns a stream that tries to leave its directory; base/outside is outside.
func hostile(t *testing.T, what, base string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	file := func(name string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 4}
	}
	for _, h := range map[string][]*tar.Header{
		"../outside": {file("../../outside/file")},
		"link/file":  {file("link/file")},
		"hard":       {{Typeflag: tar.TypeLink, Name: "hard", Linkname: "../../outside/file"}, file("hard")},
		"through": {
			{Typeflag: tar.TypeSymlink, Name: "way", Linkname: base + "/outside"},
			file("way/file"),
		},
		"device":              {{Typeflag: tar.TypeChar, Name: "device", Mode: 0o666, Devmajor: 1, Devminor: 5}},
		"file on a directory": {file("directory")},
	}[what] {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}
