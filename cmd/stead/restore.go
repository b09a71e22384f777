package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"stead/reconcile"
	"stead/reconcile/view"
	"stead/runtime"
	"stead/runtime/atomicfile"
	"stead/runtime/backup"
	"stead/runtime/image"
	"stead/spec"

	"github.com/spf13/cobra"
)

// restoreOptions are the flags of restore.
type restoreOptions struct {
	as, manifestsDir, maxSize string
	replace                   bool
	limits                    backup.Limits
}

func (a *app) restoreCommand() *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use:   "restore FILE|-",
		Short: "Bring a container back from an archive",
		Args:  args(1, 1, "restore needs the file of one archive, or - for stdin; stead backup list lists them"),
	}
	f := cmd.Flags()
	f.StringVar(&o.as, "as", "", "make a container of this name")
	f.BoolVar(&o.replace, "replace", false, "replace the data of the container of that name; the data from before is kept")
	f.StringVar(&o.manifestsDir, "manifests-dir", "", "directory for the manifest of a container that is not declared")
	f.StringVar(&o.maxSize, "max-size", "", "refuse an archive that unpacks to more, such as 200Gi (default nine tenths of what is free)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(); err != nil {
			return usage(cmd, err)
		}
		return a.restore(cmd, args[0], o)
	}
	return cmd
}

func (o *restoreOptions) check() error {
	if o.as != "" {
		if err := spec.CheckName(o.as); err != nil {
			return fmt.Errorf("--as: %w", err)
		}
	}
	if o.maxSize != "" {
		bytes, err := spec.ParseBytes(o.maxSize)
		if err != nil || bytes <= 0 {
			return fmt.Errorf("--max-size %s: want a size such as 200Gi", o.maxSize)
		}
		o.limits.Bytes = int64(bytes)
	}
	return nil
}

// restore unpacks and verifies an archive beside, puts its data in place, and writes the manifest
// if no manifest declares the container.
func (a *app) restore(cmd *cobra.Command, file string, o restoreOptions) error {
	ctx := cmd.Context()
	q := runtime.UnpackRequest{StateDir: a.stateDir, As: o.as, Replace: o.replace, Limits: o.limits}
	var stdin *os.File
	if file == "-" {
		var ok bool
		if stdin, ok = a.in.(*os.File); !ok || isTerminal(stdin) {
			return usage(cmd, errors.New("restore -: an archive comes from a file or a pipe, and from no terminal"))
		}
	} else {
		var err error
		if q.File, err = filepath.Abs(file); err != nil {
			return err
		}
	}
	jobs, done, err := a.backupJobs()
	if err != nil {
		return err
	}
	defer done()
	staging, err := backup.NewStaging(a.stateDir)
	if err != nil {
		return err
	}
	q.Staging = staging.Dir
	bar := newBar(a.err, "restore "+file)
	err = jobs.Unpack(ctx, q, stdin, func(p runtime.BackupProgress) { bar.update(image.Progress{Done: p.Bytes}) })
	bar.end()
	if err == nil {
		err = a.placeRestored(cmd, staging, o, func(v *backup.Staged, name string) {
			fmt.Fprintf(a.out, "%s restored as of %s\n", name, v.Index.CreatedAt.Format("2006-01-02 15:04:05 MST"))
		})
	} else {
		err = fmt.Errorf("restore %s: %w", file, err)
	}
	return errors.Join(err, staging.Discard(context.WithoutCancel(ctx)))
}

// placeRestored puts data in place that was unpacked, and then calls done.
func (a *app) placeRestored(cmd *cobra.Command, s *backup.Staging, o restoreOptions, done func(v *backup.Staged, name string)) error {
	v, err := s.Staged()
	if err != nil {
		return err
	}
	name := v.Index.Name
	if o.as != "" {
		name = o.as
	}
	return a.change(cmd, []string{name}, func(ctx context.Context, h *host) error {
		report, err := h.Status(ctx)
		if err != nil {
			return err
		}
		declared := slices.ContainsFunc(report.Containers, func(c view.Container) bool { return c.Name == name || c.Group == name })
		var m *restoredManifest
		if !declared {
			if m, err = a.manifestOf(v, name, o.manifestsDir); err != nil {
				return err
			}
		}
		note, err := h.Restore(ctx, reconcile.RestoreOptions{Name: name, Data: s.Dir})
		if err != nil {
			return err
		}
		a.tellNotes(v.Notes)
		done(v, name)
		if note != "" {
			fmt.Fprintln(a.err, "stead: "+note)
		}
		if m == nil {
			return nil
		}
		return a.writeRestored(m, h.daemon)
	})
}

// restoredManifest is the manifest of a container that was restored.
type restoredManifest struct {
	text, file string
	changed    []string // besides the name
}

// manifestOf returns the manifest for a container that no manifest declares: as its author wrote
// it, if that is one whole file, else as it was applied.
func (a *app) manifestOf(v *backup.Staged, name, dir string) (*restoredManifest, error) {
	if dir == "" {
		dir = "/etc/stead/manifests"
		if !slices.Contains(a.manifests, dir) && len(a.manifests) > 0 {
			dir = a.manifests[len(a.manifests)-1]
		}
	}
	m := &restoredManifest{file: filepath.Join(dir, name+".yaml")}
	if _, err := os.Lstat(m.file); err == nil {
		return nil, fmt.Errorf("%s exists, and declares no container %s; move it away, or choose another directory with --manifests-dir", m.file, name)
	}
	applied, err := runtime.ParseApplied(v.Applied, v.Index.Name)
	if err != nil {
		return nil, err
	}
	text, asWritten := v.Manifest, len(v.DropIns) == 0
	if name != v.Index.Name {
		m.changed = runtime.PrepareCopy(applied, name)
		var ok bool
		text, ok = spec.CopyText(text, applied)
		asWritten = asWritten && ok
	}
	docs := a.parser().Parse(m.file, []byte(text))
	asWritten = asWritten && len(docs) == 1 && len(docs[0].Errors) == 0 && docs[0].Name == name && docs[0].Replicas == nil
	if asWritten && name != v.Index.Name { // the file may have changed since it was applied
		asWritten = docs[0].Container != nil && docs[0].Fingerprint == applied.Fingerprint()
	}
	if m.text = text; !asWritten {
		m.changed = append(m.changed, "its manifest has no comments, as that of "+v.Index.Name+" is not one file as it was applied")
		if m.text, err = appliedYAML(applied); err != nil {
			return nil, err
		}
	}
	docs = a.parser().Parse(m.file, []byte(m.text))
	for _, d := range docs {
		if len(d.Errors) > 0 {
			return nil, exitWith(exitInvalid, "the manifest in the archive is not valid here: %w; write one that declares %s, and then: stead restore --replace", d.Errors[0], name)
		}
	}
	if len(docs) != 1 || docs[0].Name != name {
		return nil, exitWith(exitInvalid, "the manifest in the archive does not declare %s", name)
	}
	return m, nil
}

// appliedYAML returns a manifest as it was applied.
func appliedYAML(m *spec.Container) (string, error) {
	m.Spec.Replicas = nil
	var b bytes.Buffer
	b.WriteString("# Written by stead, as the container was declared when it was copied.\n")
	err := printYAML(&b, m)
	return b.String(), err
}

// writeRestored writes a manifest, or prints it where the directory is not for stead to change.
func (a *app) writeRestored(m *restoredManifest, daemon bool) error {
	dir := filepath.Dir(m.file)
	if why := managedElsewhere(dir); why != "" {
		fmt.Fprintf(a.err, "stead: %s is %s, so stead writes nothing there; add this manifest as %s:\n", dir, why, filepath.Base(m.file))
		_, err := fmt.Fprint(a.out, m.text)
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := atomicfile.Write(m.file, []byte(m.text)); err != nil {
		return err
	}
	if err := os.Chmod(m.file, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s written\n", m.file)
	for _, text := range m.changed {
		fmt.Fprintf(a.out, "  %s\n", text)
	}
	if !daemon {
		fmt.Fprintln(a.err, "stead: no daemon runs; stead apply starts the container")
	}
	return nil
}

// managedElsewhere says why the files of a directory are changed elsewhere, "" if they are not.
func managedElsewhere(dir string) string {
	if st, err := os.Lstat(dir); err == nil && st.Mode()&os.ModeSymlink != 0 {
		return "a link"
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return "in a Git work tree"
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}
