package reconcile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// says prints all that a combination came to.
func (d *Desired) says() string {
	var b strings.Builder
	for i, st := range d.observed {
		fmt.Fprintf(&b, "%s:", st.Name)
		if w := d.wanted(i, st); w != nil {
			fmt.Fprintf(&b, " %p %v %v", w.Spec, w.From, w.Err)
		}
		b.WriteByte('\n')
	}
	var coming, absent []string
	d.coming(func(name string, w *Want) { coming = append(coming, fmt.Sprintf("%s %p %v", name, w.Spec, w.From)) })
	for _, st := range d.absent {
		absent = append(absent, st.Name)
	}
	slices.Sort(coming)
	fmt.Fprintln(&b, "coming", coming, "absent", absent, "missed", d.missed, "notes", d.notes)
	for _, i := range d.Invalid {
		fmt.Fprintln(&b, "invalid", i)
	}
	return b.String()
}

// What is carried on from one reading to the next comes to what is sorted out anew.
func TestWhatIsCarriedOnIsWhatIsThere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	choice := rand.New(rand.NewPCG(seed, 0))
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	name := func() string { return string(rune('a' + choice.IntN(8))) }
	file := func() string {
		dir := "m"
		if choice.IntN(50) == 0 {
			dir = "n" // mostly empty
			os.MkdirAll(root+"/n", 0o755)
		}
		return fmt.Sprintf("%s/%s/%c.yaml", root, dir, 'a'+choice.IntN(8))
	}
	valid := func() string { return yaml(name(), fmt.Sprintf("resources: {pids: %d}", 1+choice.IntN(3))) }
	contents := []func() string{
		valid, valid, valid, valid,
		func() string { return valid() + "---\n" + valid() },
		func() string { return yaml(name(), "comand: [x]") },
		func() string { return yaml(name(), `hosts: ["other-*"]`) },
		func() string { return "" },
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &source.Source{Dirs: []string{root + "/m", root + "/n"}, Parser: spec.Parser{Host: "here"}, Host: "here"}
	if err := os.Mkdir(root+"/m", 0o755); err != nil {
		t.Fatal(err)
	}
	s.Watch(ctx)
	var declared *Declared
	var before *Desired
	var observed []*status.Status
	followed := 0
	for range 600 {
		switch p := file(); choice.IntN(8) {
		case 0:
			os.Remove(p)
		case 1:
			os.Rename(p, file())
		case 2:
			folder := root + "/m/" + name() + ".container.d"
			os.MkdirAll(folder, 0o755)
			os.WriteFile(folder+"/1.yaml", []byte("metadata: {labels: {a: b}}"), 0o644)
		case 3:
			os.RemoveAll(root + "/m/" + name() + ".container.d")
			os.RemoveAll(root + "/n")
		default:
			os.WriteFile(root+"/new", []byte(contents[choice.IntN(len(contents))]()), 0o644)
			os.Rename(root+"/new", p)
		}
		select { // now and then two changes at once, or an event that comes late
		case <-s.Wake():
		case <-time.After(time.Duration(choice.IntN(2)) * time.Millisecond):
		}
		r := s.Follow()
		if declared == nil || declared.Reading != r {
			lineage := (*int)(nil)
			if declared != nil {
				lineage = declared.lineage
			}
			if declared = declared.next(r); declared.lineage == lineage {
				followed++
			}
		}
		got, want := declared.combine(observed, before), Declare(r).Combine(observed)
		if got.says() != want.says() {
			t.Fatalf("carried on:\n%s\nanew:\n%s", got.says(), want.says())
		}
		before = got
		observed = slices.Clone(observed)
		got.coming(func(name string, w *Want) {
			if choice.IntN(2) == 0 {
				i, _ := slices.BinarySearchFunc(observed, name, func(st *status.Status, name string) int { return strings.Compare(st.Name, name) })
				observed = slices.Insert(observed, i, &status.Status{Name: name, Applied: w.Spec, From: w.From, State: status.Running})
			}
		})
		observed = slices.DeleteFunc(observed, func(st *status.Status) bool {
			return slices.Contains(got.absent, st) && choice.IntN(2) == 0 || choice.IntN(50) == 0
		})
		for i, st := range observed {
			if w := got.Lookup(st.Name); w != nil && choice.IntN(3) == 0 {
				observed[i] = &status.Status{Name: st.Name, Applied: w.Spec, From: w.From, State: status.Running}
			}
		}
	}
	if followed < 10 {
		t.Errorf("only %d readings were carried on", followed)
	}
}
