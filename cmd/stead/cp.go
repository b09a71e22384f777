package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"stead/runtime"
	"stead/runtime/filecopy"
	"stead/runtime/status"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (a *app) cpCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "cp SOURCE DESTINATION",
		Short:             "Copy files into a container or out of one",
		Args:              args(2, 2, "cp needs a source and a destination, one of which is in a container: NAME:/PATH"),
		ValidArgsFunction: a.completeCopy,
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to, err := copySides(args[0], args[1])
			if err != nil {
				return usage(cmd, err)
			}
			return a.copyFiles(cmd.Context(), from, to)
		},
	}
}

// completeCopy completes names of containers, and files.
func (a *app) completeCopy(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if strings.ContainsAny(text, "/.:") || len(args) > 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	names, how := a.completeNames(cmd, nil, text)
	for i := range names {
		names[i] += ":/"
	}
	return names, how | cobra.ShellCompDirectiveNoSpace
}

// side is a source or a destination: a path in a container, one of the host, or a stream.
type side struct {
	container string // "" for the host
	path      string // "-" for stdin or stdout
}

// copySides parses the arguments of cp. A colon after a slash belongs to a path of the host.
func copySides(source, destination string) (from, to side, err error) {
	for i, text := range []string{source, destination} {
		s := []*side{&from, &to}[i]
		name, path, ok := strings.Cut(text, ":")
		if !ok || name == "" || strings.ContainsAny(name, "/.") {
			s.path = text
		} else if s.container, s.path = name, path; !strings.HasPrefix(path, "/") {
			return from, to, fmt.Errorf("%s: want NAME:/PATH, a path that begins with a slash (./%[1]s is a file of the host)", text)
		}
		if s.path == "" {
			return from, to, errors.New("want a path, found an empty one")
		}
	}
	if (from.container == "") == (to.container == "") {
		return from, to, errors.New("want one side in a container: NAME:/PATH, and the other on the host or - for a tar stream")
	}
	return from, to, nil
}

// copyFiles copies between a container and the host.
func (a *app) copyFiles(ctx context.Context, from, to side) error {
	inside := from
	if to.container != "" {
		inside = to
	}
	rt, err := a.openOnly(ctx, inside.container)
	if err != nil {
		return err
	}
	defer rt.Close()
	files, err := rt.OpenFiles(inside.container)
	if errors.Is(err, status.ErrMissing) {
		return a.missing(ctx, inside.container)
	}
	if err != nil {
		return err
	}
	defer files.Close()
	var notes []filecopy.Note
	if to.container != "" {
		notes, err = a.copyIn(ctx, files, from.path, to.path)
	} else {
		notes, err = a.copyOut(ctx, files, from.path, to.path)
	}
	for _, n := range notes {
		fmt.Fprintf(a.err, "stead: %s\n", clean(n.String()))
	}
	return err
}

// copyIn copies a file or directory of the host, or a tar from stdin, into a container.
func (a *app) copyIn(ctx context.Context, files *runtime.Files, source, target string) ([]filecopy.Note, error) {
	o := filecopy.Options{MaxID: 65535}
	if source == "-" {
		if isTerminal(os.Stdin) {
			return nil, errors.New("stdin is a terminal; - reads a tar stream")
		}
		return files.Unpack(ctx, target, os.Stdin, o)
	}
	o.As = filecopy.Name(source)
	return pipeCopy(func(r *os.File) ([]filecopy.Note, error) {
		return files.Unpack(ctx, target, r, o)
	}, func(w *os.File) ([]filecopy.Note, error) {
		return withHost(source, func(root int, path string) ([]filecopy.Note, error) {
			return filecopy.Pack(ctx, root, path, nil, w)
		})
	})
}

// copyOut copies a file or directory of a container to the host, or to stdout as a tar.
func (a *app) copyOut(ctx context.Context, files *runtime.Files, source, target string) ([]filecopy.Note, error) {
	if target == "-" {
		out, ok := fileOf(a.out)
		if !ok || isTerminal(out) {
			return nil, errors.New("stdout is a terminal; - writes a tar stream, redirect it to a file or a pipe")
		}
		return files.Pack(ctx, source, out)
	}
	o := filecopy.Options{As: filecopy.Name(source), Plain: true}
	return pipeCopy(func(r *os.File) ([]filecopy.Note, error) {
		return withHost(target, func(root int, path string) ([]filecopy.Note, error) {
			return filecopy.Unpack(ctx, root, path, r, o)
		})
	}, func(w *os.File) ([]filecopy.Note, error) {
		return files.Pack(ctx, source, w)
	})
}

// pipeCopy connects what writes a stream to what reads it, and returns the notes of both.
func pipeCopy(read, write func(*os.File) ([]filecopy.Note, error)) ([]filecopy.Note, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	var written []filecopy.Note
	done := make(chan error, 1)
	go func() {
		var err error
		written, err = write(w)
		w.Close()
		done <- err
	}()
	notes, failed := read(r)
	r.Close() // a writer that is not at its end gets EPIPE
	err = <-done
	if failed != nil && (err == nil || strings.Contains(err.Error(), unix.EPIPE.Error())) {
		err = failed
	}
	return append(written, notes...), err
}

// withHost calls f with the host's root directory and a path in it. The end of a path, such as /.,
// stays: it says what is meant.
func withHost(name string, f func(root int, path string) ([]filecopy.Note, error)) ([]filecopy.Note, error) {
	dir, err := os.Getwd()
	if err != nil && !filepath.IsAbs(name) {
		return nil, err
	}
	if !filepath.IsAbs(name) {
		name = dir + "/" + name
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	return f(root, name)
}
