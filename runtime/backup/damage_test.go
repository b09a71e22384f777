package backup

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"

	"stead/runtime/roottest"
)

// An archive with a flipped bit or that is cut off is refused.
func TestDamaged(t *testing.T) {
	roottest.Need(t)
	dir := t.TempDir() + "/tree"
	if err := os.MkdirAll(dir+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/etc/file", bytes.Repeat([]byte("some text "), 500), 0o644); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(archive(t, dir, false))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(t.Context(), bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 100 {
		bad := bytes.Clone(whole)
		bit := random.IntN(len(bad) * 8)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := Verify(t.Context(), bytes.NewReader(bad)); err == nil && !bytes.Equal(unzstd(t, bad), unzstd(t, whole)) {
			t.Errorf("bit %d of byte %d flipped: accepted", bit%8, bit/8)
		}
		n := len(whole) * i / 100
		if _, err := Verify(t.Context(), bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("cut off at %d of %d bytes: accepted", n, len(whole))
		}
	}
	if _, err := Verify(t.Context(), bytes.NewReader(append(bytes.Clone(whole), whole...))); err == nil {
		t.Error("one archive after another: accepted")
	}
}

// unzstd decompresses an archive. Some bits of the format have no meaning: a flip of one changes
// nothing of what is compressed.
func unzstd(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
