package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// On v2 the parent protects what its groups are to have together: without it none of them
// has any protection.
func TestParentProtectsMemory(t *testing.T) {
	dir := t.TempDir()
	h := &Host{Mode: V2, Parent: "/stead", unified: dir}
	for _, group := range []string{"stead", "stead/a", "stead/b", "stead/c"} {
		if err := os.MkdirAll(filepath.Join(dir, group), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, group, "memory.low"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	low := func(group string) string {
		text, err := read(filepath.Join(dir, group, "memory.low"))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, step := range []struct {
		group        string
		limit        int64
		want, parent string
	}{
		{"a", 1 << 20, "1048576", "1048576"},
		{"b", 2 << 20, "2097152", "3145728"},
		{"b", 4 << 20, "4194304", "5242880"},
	} {
		if err := h.Group(step.group).memoryLowV2(step.limit); err != nil {
			t.Fatal(err)
		}
		if got := low("stead/" + step.group); got != step.want || low("stead") != step.parent {
			t.Errorf("%s with %d: it has %s and the parent %s, want %s and %s", step.group, step.limit, got, low("stead"), step.want, step.parent)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "stead/a")); err != nil {
		t.Fatal(err)
	}
	if err := h.Group("a").protectParent(); err != nil || low("stead") != "4194304" {
		t.Errorf("without a the parent has %s, %v", low("stead"), err)
	}
}
