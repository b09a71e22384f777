package spec

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// FuzzParse: no input makes Parse panic, and a valid container survives being
// stored. The committed corpus is in testdata/fuzz.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "testdata/nine-errors.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs := Parser{Host: "node1"}.Parse("f.yaml", data)
		if len(docs) == 0 {
			t.Fatal("no document")
		}
		for _, doc := range docs {
			if (doc.Container == nil) == (doc.Errors == nil) {
				t.Fatalf("container %v with errors %v", doc.Container, doc.Errors)
			}
			if doc.Container != nil {
				roundTrip(t, doc.Container)
			}
		}
	})
}

// roundTrip stores a container and reads it back.
func roundTrip(t *testing.T, c *Container) {
	t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	back := &Container{}
	if err := json.Unmarshal(data, back); err != nil {
		t.Fatal(err)
	}
	back.Default()
	if !reflect.DeepEqual(c, back) {
		t.Fatalf("stored %s, read back %s", data, asJSON(t, back))
	}
	if d := Diff(c, back); d != nil {
		t.Fatalf("differs after being stored: %v", d)
	}
}

func TestStoredRecords(t *testing.T) {
	full := valid(t, fullManifest)
	t.Run("a record reads back as it was", func(t *testing.T) { roundTrip(t, full) })
	t.Run("a newer version's fields are ignored", func(t *testing.T) {
		data := strings.Replace(asJSON(t, full), `"spec":{`, `"spec":{"later":{"a":1},`, 1)
		c := &Container{}
		if err := json.Unmarshal([]byte(data), c); err != nil {
			t.Fatal(err)
		}
		if c.Default(); !reflect.DeepEqual(c, full) {
			t.Errorf("got %s", asJSON(t, c))
		}
	})
	t.Run("an older version's absences are defaults", func(t *testing.T) {
		c := &Container{}
		old := `{"apiVersion":"stead/v1","kind":"Container","metadata":{"name":"web"},"spec":{"rootfs":{"host":{}},"command":["sh"],"network":{"mode":"none"},` +
			`"stop":{"signal":"INT"},"mounts":{"/tmp":{"tmpfs":{}}}}}`
		if err := json.Unmarshal([]byte(old), c); err != nil {
			t.Fatal(err)
		}
		c.Default()
		want := valid(t, head+minimal+"  stop: {signal: INT}\n  mounts: {/tmp: {tmpfs: {}}}\n")
		if !reflect.DeepEqual(c, want) {
			t.Errorf("got %s\nwant %s", asJSON(t, c), asJSON(t, want))
		}
	})
	t.Run("the stored JSON is a manifest of the same meaning", func(t *testing.T) {
		if again := valid(t, asJSON(t, full)); !reflect.DeepEqual(again, full) {
			t.Errorf("got %s\nwant %s", asJSON(t, again), asJSON(t, full))
		}
	})
}

// What `inspect -o yaml` prints can be dropped into the directory again.
func TestYAMLOfAContainerIsAManifest(t *testing.T) {
	full := valid(t, fullManifest)
	data, err := yaml.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if again := valid(t, string(data)); !reflect.DeepEqual(again, full) {
		t.Errorf("%s\ngot  %s\nwant %s", data, asJSON(t, again), asJSON(t, full))
	}
}

// typical is about as large as manifests are.
const typical = head + minimal + `  env: {TZ: UTC, WORKERS: 4}
  user: www-data
  resources: {memory: 256Mi, swap: 0, cpu: 500m, pids: 128}
  mounts:
    /data: {source: /srv/data, readOnly: true}
    /tmp: {tmpfs: {size: 64Mi}}
  restart: {policy: always, backoff: {initial: 1s, max: 5m}}
  stop: {signal: TERM, timeout: 10s}
`

func BenchmarkParse(b *testing.B) {
	data := []byte(typical)
	b.ReportAllocs()
	for b.Loop() {
		if doc := (Parser{}).Parse("web.yaml", data)[0]; doc.Errors != nil {
			b.Fatal(doc.Errors[0])
		}
	}
}

func BenchmarkDiffOfEquals(b *testing.B) {
	one := Parser{}.Parse("web.yaml", []byte(typical))[0].Container
	two := Parser{}.Parse("web.yaml", []byte(typical))[0].Container
	b.ReportAllocs()
	for b.Loop() {
		if Diff(one, two) != nil {
			b.Fatal("differ")
		}
	}
}
