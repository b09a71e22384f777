package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"stead/runtime"
	"stead/runtime/backup"
	"stead/runtime/image"
	"stead/spec"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

// backupSuffix ends the names of archives.
const backupSuffix = ".tar.zst"

func (a *app) backupsDir() string { return filepath.Join(a.stateDir, "backups") }

// backupJobs returns what runs backups and restores in child processes. The caller must call done.
func (a *app) backupJobs() (jobs runtime.BackupJobs, done func(), err error) {
	images, done, err := a.imageJobs()
	return runtime.BackupJobs{Runner: images.Runner, StateDir: a.stateDir}, done, err
}

func (a *app) backupCommand() *cobra.Command {
	var output string
	maxFreeze := 5 * time.Second
	cmd := &cobra.Command{
		Use:               "backup NAME…",
		Short:             "Write archives of containers, or list and verify archives",
		Args:              args(1, math.MaxInt, "backup needs the names of containers; stead ps lists them"),
		ValidArgsFunction: a.completeNames,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "a directory, a file that does not exist yet, or - for stdout (default backup.target of the manifest, or STATE/backups)")
	cmd.Flags().DurationVar(&maxFreeze, "max-freeze", maxFreeze, "how long a container may stand still; a backup that takes longer fails")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if maxFreeze < time.Millisecond {
			return usage(cmd, fmt.Errorf("--max-freeze %v: want a time such as 5s", maxFreeze))
		}
		rt, err := a.openOnly(cmd.Context())
		if err != nil {
			return err
		}
		defer rt.Close()
		if names, err = replicasToo(rt, names); err != nil {
			return err
		}
		target, err := a.backupTarget(output, len(names))
		if err != nil {
			return usage(cmd, err)
		}
		jobs, done, err := a.backupJobs()
		if err != nil {
			return err
		}
		defer done()
		var failed *multierror.Error
		for _, name := range names {
			if err := a.backUp(cmd.Context(), rt, jobs, name, target, maxFreeze); err != nil {
				failed = multierror.Append(failed, fmt.Errorf("%s: %w", name, err))
			}
		}
		return failed.ErrorOrNil()
	}
	cmd.AddCommand(a.backupListCommand(), a.backupVerifyCommand())
	return cmd
}

// replicasToo replaces the names of manifests by those of their replicas.
func replicasToo(rt *runtime.Runtime, names []string) (all []string, err error) {
	for _, name := range names {
		before := len(all)
		for _, st := range rt.List() {
			if st.Name == name || st.Applied.Group() == name {
				all = append(all, st.Name)
			}
		}
		if len(all) == before {
			return nil, exitWith(exitMissing, "no container %s; stead ps lists them", name)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(all))), nil
}

// declaredTarget returns how archives are named in the directory that a manifest says, or in that of
// stead.
func (a *app) declaredTarget(dir string) (func(name string) string, error) {
	if dir == "" {
		dir = a.backupsDir()
		return inDirectory(dir), os.MkdirAll(dir, 0o700)
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("backup.target %s is no directory; make it, or mount what belongs there", dir)
	}
	return inDirectory(dir), nil
}

func inDirectory(dir string) func(name string) string {
	at := time.Now().UTC().Format("20060102T150405Z")
	return func(name string) string {
		file := filepath.Join(dir, name+"-"+at)
		for n := 2; ; n++ {
			if _, err := os.Lstat(file + backupSuffix); err != nil {
				return file + backupSuffix
			}
			file = fmt.Sprintf("%s/%s-%s.%d", dir, name, at, n) // there were two in one second
		}
	}
}

// backupTarget returns how the archive of a container is named; "" is stdout. It returns nil if the
// manifest says where it goes.
func (a *app) backupTarget(output string, containers int) (func(name string) string, error) {
	if output == "" {
		return nil, nil
	}
	if output == "-" {
		if f, ok := fileOf(a.out); containers > 1 || !ok || isTerminal(f) {
			return nil, errors.New("-o -: an archive of one container goes to stdout, and to no terminal; redirect it to a file or a pipe")
		}
		return func(string) string { return "" }, nil
	}
	file, err := filepath.Abs(output)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(file); err == nil && st.IsDir() {
		return inDirectory(file), nil
	}
	if containers > 1 {
		return nil, fmt.Errorf("-o %s: want a directory that exists for several containers", output)
	}
	return func(string) string { return file }, nil
}

// backUp makes one archive and says what is in it.
func (a *app) backUp(ctx context.Context, rt *runtime.Runtime, jobs runtime.BackupJobs, name string, target func(string) string, maxFreeze time.Duration) error {
	q, err := rt.BackupRequest(name)
	if err != nil {
		return err
	}
	how := backupOf(rt, name)
	keep := how.Keep != nil && target == nil
	if target == nil {
		if target, err = a.declaredTarget(how.Target); err != nil {
			return err
		}
	}
	q.MaxFreeze, q.Output = maxFreeze, target(name)
	q.Index.Host, q.Index.Program, q.Index.CreatedAt = a.host, versionText(), time.Now().UTC().Truncate(time.Second)
	r, err := a.runBackup(ctx, rt, jobs, q, how)
	if r == nil {
		return err
	}
	a.tellBackup(q, r)
	if keep && err == nil {
		err = a.deleteOldBackups(q, int(*how.Keep))
	}
	return err
}

// backupOf returns what the manifest of a container says of backups.
func backupOf(rt *runtime.Runtime, name string) spec.Backup {
	for _, st := range rt.List() {
		if st.Name == name && st.Applied != nil && st.Applied.Spec.Backup != nil {
			return *st.Applied.Spec.Backup
		}
	}
	return spec.Backup{}
}

// runBackup makes an archive, with the hooks around it. If the hook after it fails, there are a result
// and an error.
func (a *app) runBackup(ctx context.Context, rt *runtime.Runtime, jobs runtime.BackupJobs, q *backup.Request, how spec.Backup) (r *backup.Result, err error) {
	name := q.Index.Name
	defer func() {
		err = errors.Join(err, rt.RunBackupHook(context.WithoutCancel(ctx), name, "after", how.After))
	}()
	if err := rt.RunBackupHook(ctx, name, "before", how.Before); err != nil {
		return nil, err
	}
	var stdout *os.File
	if q.Output == "" {
		stdout, _ = fileOf(a.out)
	}
	bar := newBar(a.err, name)
	defer bar.end()
	return jobs.Backup(ctx, q, stdout, func(p runtime.BackupProgress) { bar.update(image.Progress{Done: p.Bytes}) })
}

// tellBackup says what a backup came to, and what is in it.
func (a *app) tellBackup(q *backup.Request, r *backup.Result) {
	name, out := q.Index.Name, a.out
	if q.Output == "" {
		out = a.err
	}
	a.tellNotes(r.Notes)
	for _, m := range q.Index.Mounts {
		where := "not in the backup"
		if m.Included {
			where = "in the backup"
		}
		fmt.Fprintf(a.err, "stead: %s: %s: %s (%s)\n", name, where, m.Target, strings.TrimSpace(m.Kind+" "+m.Source))
	}
	text := name + " backed up"
	if r.File != "" {
		text += ": " + r.File
	}
	text += fmt.Sprintf(", %s in %s", size(r.Bytes), size(r.Size))
	if len(q.Runs) > 0 {
		text += fmt.Sprintf(", stood still for %v", r.Frozen.Round(time.Millisecond))
	}
	fmt.Fprintln(out, text)
}

// deleteOldBackups deletes the archives of a container in the directory of a new one, which is complete
// and was read again, but for the newest. Archives that can't be read don't count, and stay.
func (a *app) deleteOldBackups(q *backup.Request, keep int) error {
	all, err := listBackups(filepath.Dir(q.Output))
	if err != nil {
		return fmt.Errorf("delete old backups: %w", err)
	}
	all = slices.DeleteFunc(all, func(e backupEntry) bool { return e.Error != "" || e.Name != q.Index.Name || e.Host != q.Index.Host })
	for i, e := range all { // the oldest first
		if i >= len(all)-keep || e.File == q.Output {
			continue
		}
		if err := os.Remove(e.File); err != nil {
			return fmt.Errorf("delete old backup: %w", err)
		}
		fmt.Fprintf(a.out, "%s deleted\n", e.File)
	}
	return nil
}

// tellNotes prints what is not in an archive as it was on disk.
func (a *app) tellNotes(notes []backup.Note) {
	const most = 10
	for i, n := range notes {
		if i == most {
			fmt.Fprintf(a.err, "stead: and %s more\n", count(len(notes)-most, "note"))
			break
		}
		fmt.Fprintf(a.err, "stead: %s\n", clean(n.String()))
	}
}

// backupEntry is an archive in a list.
type backupEntry struct {
	File      string    `json:"file"`
	Name      string    `json:"name,omitempty"` // of the container
	Size      int64     `json:"size"`           // bytes
	CreatedAt time.Time `json:"createdAt,omitzero"`
	Host      string    `json:"host,omitempty"`
	Error     string    `json:"error,omitempty"` // why its index can't be read
}

func (a *app) backupListCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "list [DIR]", Short: "List the archives in STATE/backups, or in a directory", Args: args(0, 1, "backup list takes one directory"),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := a.backupsDir()
			if len(args) > 0 {
				dir = args[0]
			}
			all, err := listBackups(dir)
			if err != nil && (len(args) > 0 || !errors.Is(err, os.ErrNotExist)) {
				return fmt.Errorf("list backups: %w", err)
			}
			if output != "table" {
				return printList(a.out, all, output, func(e backupEntry) string { return e.File })
			}
			var rows [][]string
			for _, e := range all {
				name, made := clean(e.Name), age(time.Since(e.CreatedAt))
				if e.Error != "" {
					name, made = "-", e.Error
				}
				rows = append(rows, []string{name, made, size(e.Size), clean(e.File)})
			}
			return table(a.out, "NAME AGE SIZE FILE", rows)
		},
	}
	outputFlag(cmd, &output, "table", "json", "yaml", "name")
	return cmd
}

// listBackups lists the archives in a directory, by container and time.
func listBackups(dir string) ([]backupEntry, error) {
	files, err := os.ReadDir(dir)
	all := []backupEntry{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), backupSuffix) || !f.Type().IsRegular() {
			continue
		}
		e := backupEntry{File: filepath.Join(dir, f.Name())}
		if st, err := f.Info(); err == nil {
			e.Size = st.Size()
		}
		if x, err := indexOf(e.File); err != nil {
			e.Error = err.Error()
		} else {
			e.Name, e.CreatedAt, e.Host = x.Name, x.CreatedAt, x.Host
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(x, y backupEntry) int {
		if n := strings.Compare(x.Name, y.Name); n != 0 {
			return n
		}
		return x.CreatedAt.Compare(y.CreatedAt)
	})
	return all, err
}

func indexOf(file string) (*backup.Index, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return backup.ReadIndex(f)
}

func (a *app) backupVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify FILE…", Short: "Read archives to their ends and check all of them",
		Args: args(1, math.MaxInt, "backup verify needs the files of archives, or - for stdin; stead backup list lists them"),
		RunE: func(cmd *cobra.Command, files []string) error {
			var failed *multierror.Error
			for _, file := range files {
				info, err := a.verifyBackup(cmd.Context(), file)
				if err != nil {
					failed = multierror.Append(failed, fmt.Errorf("verify %s: %w", file, err))
					continue
				}
				a.tellNotes(info.Notes)
				fmt.Fprintf(a.out, "%s is whole: %s of %s, %s, %s\n", file, clean(info.Index.Name), clean(info.Index.Host), info.Index.CreatedAt.Format(time.RFC3339), count(int(info.Members), "member"))
			}
			return failed.ErrorOrNil()
		},
	}
}

func (a *app) verifyBackup(ctx context.Context, file string) (*backup.Info, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	return backup.Verify(ctx, in)
}
