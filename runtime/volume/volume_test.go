package volume

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(roottest.Main(m)) }

func nothing(string) (bool, error) { return false, nil }

func unused() error { return nil }

func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// exists lists what is in the directory of volumes, but the lock.
func exists(t *testing.T, s *Store) string {
	t.Helper()
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}

// A volume that takes long to make delays no other. Who needs it waits as long as it wants to.
func TestSlowSeed(t *testing.T) {
	roottest.Need(t)
	s := &Store{Dir: t.TempDir() + "/volumes"}
	_, err := s.Ensure(t.Context(), "slow", Owner{}, func(string) (bool, error) {
		if _, err := s.Ensure(t.Context(), "other", Owner{}, nothing); err != nil {
			t.Errorf("another is made: %v", err)
		}
		if err := s.Remove(t.Context(), "other", unused); err != nil {
			t.Errorf("another is removed: %v", err)
		}
		if _, err := s.Ensure(ended(t), "slow", Owner{}, nothing); !errors.Is(err, context.Canceled) {
			t.Errorf("the same is made: %v", err)
		}
		if err := s.Remove(ended(t), "slow", unused); !errors.Is(err, context.Canceled) {
			t.Errorf("the same is removed: %v", err)
		}
		if err := s.Recover(t.Context()); err != nil {
			t.Error(err)
		}
		return false, nil
	})
	if got := exists(t, s); err != nil || got != "slow" {
		t.Errorf("there are %s, %v; want slow", got, err)
	}
}

// A seed that fails, on a full disk say, leaves nothing there.
func TestFailedSeed(t *testing.T) {
	roottest.Need(t)
	s := &Store{Dir: t.TempDir() + "/volumes"}
	_, err := s.Ensure(t.Context(), "big", Owner{}, func(dir string) (bool, error) {
		return true, errors.Join(os.WriteFile(dir+"/file", make([]byte, 1<<20), 0o600), unix.ENOSPC)
	})
	if got := exists(t, s); !errors.Is(err, unix.ENOSPC) || got != "" {
		t.Errorf("got %v, left are %q", err, got)
	}
}

// A container can't get a volume between the moment at which nobody is found to use it, and its
// removal.
func TestRemoveAndMount(t *testing.T) {
	roottest.Need(t)
	s := &Store{Dir: t.TempDir() + "/volumes"}
	if _, err := s.Ensure(t.Context(), "app", Owner{}, nothing); err != nil {
		t.Fatal(err)
	}
	err := s.Remove(t.Context(), "app", func() error {
		if path, err := s.Ensure(ended(t), "app", Owner{}, nothing); !errors.Is(err, context.Canceled) {
			t.Errorf("a container mounts %s, which is being removed, %v", path, err)
		}
		return nil
	})
	if got := exists(t, s); err != nil || got != "" {
		t.Errorf("got %v, left are %q", err, got)
	}
}

// What died while it made or deleted a volume is cleaned up.
func TestRecover(t *testing.T) {
	roottest.Need(t)
	s := &Store{Dir: t.TempDir()}
	for _, dir := range []string{"app", ".new-web/x", ".deleting-old/x"} {
		if err := os.MkdirAll(s.Path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Recover(t.Context()); err != nil || exists(t, s) != "app" {
		t.Errorf("got %v, left are %q", err, exists(t, s))
	}
}
