package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/image"
	"stead/runtime/image/registry"
	"stead/runtime/job"
	"stead/runtime/store"
	"stead/spec"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Add, list and delete images",
		Args:  unknownVerb,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.imagePullCommand(), a.imageImportCommand(), a.imageListCommand(), a.imageInspectCommand(), a.imageExportCommand(), a.imageRemoveCommand(), a.imagePruneCommand())
	return cmd
}

// images returns the store of images.
func (a *app) images() *image.Store { return image.Open(filepath.Join(a.stateDir, "images")) }

// imageJobs returns what adds images in child processes, and prepares the directories for it.
// The caller must call done.
func (a *app) imageJobs() (jobs image.Jobs, done func(), err error) {
	if err := os.MkdirAll(a.stateDir, 0o700); err != nil {
		return jobs, nil, fmt.Errorf("make state directory: %w", err)
	}
	host, err := cgroup.Detect(a.cgroupParent)
	if err != nil {
		return jobs, nil, err
	}
	host.Owner = store.Resolved(a.stateDir)
	done = func() {
		if unlock, err := store.Lock(a.stateDir); err == nil { // else a daemon has the parent cgroup
			_ = host.RemoveParent()
			unlock()
		}
	}
	return image.Jobs{Store: a.images(), Runner: job.Runner{Host: host}, Registries: a.registries}, done, nil
}

// imageOptions adds the flags of a pull or import.
func imageOptions(cmd *cobra.Command, o *image.Options) func() error {
	size := ""
	f := cmd.Flags()
	f.StringVar(&size, "max-size", "100Gi", "refuse an image that unpacks to more")
	f.Int64Var(&o.MaxEntries, "max-entries", image.DefaultMaxEntries, "refuse an image with more files")
	f.StringVar(&o.Digest, "digest", "", "refuse anything but this: sha256:… of the manifest, or of the file of an archive")
	return func() error {
		bytes, err := spec.ParseBytes(size)
		if err != nil || bytes <= 0 {
			return fmt.Errorf("--max-size %s: want a size such as 200Gi", size)
		}
		if o.MaxEntries <= 0 {
			return fmt.Errorf("--max-entries %d: want more than 0", o.MaxEntries)
		}
		o.MaxBytes = int64(bytes)
		return nil
	}
}

func (a *app) imagePullCommand() *cobra.Command {
	var o image.Options
	var use bool
	cmd := &cobra.Command{
		Use:   "pull REFERENCE…",
		Short: "Download images from registries",
		Args:  args(1, math.MaxInt, "image pull needs references, such as docker.io/library/nginx:1.27"),
	}
	check := imageOptions(cmd, &o)
	useFlag(cmd, &use)
	cmd.RunE = func(cmd *cobra.Command, references []string) error {
		err := check()
		for _, r := range references {
			if err == nil {
				_, err = registry.Parse(r)
			}
		}
		if err != nil {
			return usage(cmd, err)
		}
		jobs, done, err := a.imageJobs()
		if err != nil {
			return err
		}
		defer done()
		var failed *multierror.Error
		for _, r := range references {
			bar := newBar(a.err, r)
			o.Progress = bar.update
			m, err := jobs.Pull(cmd.Context(), r, o)
			bar.end()
			if err != nil {
				failed = multierror.Append(failed, err)
				continue
			}
			fmt.Fprintf(a.out, "%s pulled: %s, %s\n", m.Name, m.Digest, size(m.Size))
			failed = multierror.Append(failed, a.imageAdded(cmd.Context(), r, use))
		}
		return failed.ErrorOrNil()
	}
	return cmd
}

func (a *app) imageImportCommand() *cobra.Command {
	var o image.Options
	var use bool
	cmd := &cobra.Command{
		Use:   "import NAME DIR|FILE|-",
		Short: "Make an image of a directory or an archive",
		Args:  args(2, 2, "image import needs a name for the image, and a directory, a file, or - for an archive from stdin"),
	}
	check := imageOptions(cmd, &o)
	useFlag(cmd, &use)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := check()
		if err == nil {
			err = image.CheckName(args[0])
		}
		if err != nil {
			return usage(cmd, err)
		}
		jobs, done, err := a.imageJobs()
		if err != nil {
			return err
		}
		defer done()
		bar := newBar(a.err, args[0])
		o.Progress = bar.update
		m, err := jobs.Import(cmd.Context(), args[0], args[1], os.Stdin, o)
		bar.end()
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "%s imported: %s, %s\n", m.Name, m.Digest, size(m.Size))
		return a.imageAdded(cmd.Context(), args[0], use)
	}
	return cmd
}

func (a *app) imageListCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "list", Short: "List images and who uses them", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			declared, err := a.declaredImages()
			if err != nil { // what containers use is listed all the same
				fmt.Fprintf(a.err, "stead: declarations are not listed as uses: %v\n", err)
			}
			all, err := a.images().List(declared)
			if err != nil {
				return err
			}
			if output != "table" {
				return printList(a.out, all, output, func(e image.Entry) string { return nameOrDigest(e) })
			}
			var rows [][]string
			for _, e := range all {
				rows = append(rows, []string{nameOrDigest(e), shortDigest(e.Digest), size(e.Size), fmt.Sprint(e.Layers), age(time.Since(e.CreatedAt)), usersText(e.UsedBy)})
			}
			return table(a.out, "NAME DIGEST SIZE LAYERS AGE USED-BY", rows)
		},
	}
	outputFlag(cmd, &output, "table", "json", "yaml", "name")
	return cmd
}

// usersText shortens users for a table: "container web-0, web-1; image debian-12".
func usersText(users []string) string {
	var text strings.Builder
	before := ""
	for _, user := range users { // sorted
		kind, name, _ := strings.Cut(user, " ")
		switch {
		case text.Len() == 0:
			text.WriteString(user)
		case kind == before:
			text.WriteString(", " + name)
		default:
			text.WriteString("; " + user)
		}
		before = kind
	}
	return text.String()
}

func nameOrDigest(e image.Entry) string {
	if e.Name == "" {
		return e.Digest
	}
	return e.Name
}

// shortDigest returns the beginning of a digest, enough to tell images apart.
func shortDigest(digest string) string {
	return strings.TrimPrefix(digest, "sha256:")[:12]
}

// size prints a number of bytes for people.
func size(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for ; v >= 1000 && i < len(units)-1; i++ {
		v /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}

func (a *app) imageInspectCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "inspect NAME", Short: "Show what is known about an image",
		Args: args(1, 1, "image inspect needs the name of one image; stead image list lists them"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.images().Lookup(args[0])
			if err != nil {
				return imageError(err)
			}
			v := struct {
				APIVersion string `json:"apiVersion"`
				*image.Image
				LayersDir string `json:"layersDir"`
			}{spec.APIVersion, m, a.images().LayersDir()}
			if output == "json" {
				return printJSON(a.out, v)
			}
			return printYAML(a.out, v)
		},
	}
	outputFlag(cmd, &output, "yaml", "json")
	return cmd
}

func (a *app) imageExportCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "export NAME -o FILE|-", Short: "Write an image as a tar in the OCI layout",
		Args: args(1, 1, "image export needs the name of one image; stead image list lists them"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return usage(cmd, errors.New("image export needs a file: -o FILE, or -o - for stdout"))
			}
			if file != "-" {
				return imageError(a.images().ExportFile(cmd.Context(), args[0], file))
			}
			if isTerminal(a.out) {
				return usage(cmd, errors.New("an image is not for a terminal; use -o FILE, or a pipe"))
			}
			return imageError(a.images().Export(cmd.Context(), args[0], a.out))
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "the file to write; - for stdout")
	return cmd
}

// imageError gives errors of the store their exit codes.
func imageError(err error) error {
	var used *image.InUseError
	switch {
	case errors.Is(err, image.ErrNotFound):
		return exitWith(exitMissing, "%w; stead image list lists them", err)
	case errors.Is(err, image.ErrBusy):
		return exitWith(exitLocked, "%w; try again when they are done", err)
	case errors.As(err, &used):
		return exitWith(exitFailure, "%w; remove these first (stead purge for removed containers)", err)
	}
	return err
}

func (a *app) imageRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME…", Short: "Delete images that nobody uses",
		Args: args(1, math.MaxInt, "image remove needs the names of images; stead image list lists them"),
		RunE: func(cmd *cobra.Command, names []string) error {
			declared, err := a.declaredImages()
			if err != nil {
				return err
			}
			var failed *multierror.Error
			for _, name := range names {
				if err := a.images().Remove(cmd.Context(), name, declared); err != nil {
					failed = multierror.Append(failed, imageError(err))
					continue
				}
				fmt.Fprintln(a.out, name, "deleted")
			}
			return failed.ErrorOrNil()
		},
	}
}

func (a *app) imagePruneCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "prune", Short: "Delete all images that nothing declares or uses", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			declared, err := a.declaredImages()
			if err != nil {
				return err
			}
			unused, err := a.images().Unused(declared)
			if err != nil {
				return err
			}
			if !yes {
				if ok, err := a.confirmPrune(unused); !ok || err != nil {
					return err
				}
			}
			gone, err := a.images().Prune(cmd.Context(), declared)
			if err != nil {
				return imageError(err)
			}
			for _, e := range gone {
				fmt.Fprintln(a.out, nameOrDigest(e), "deleted")
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "delete without asking")
	return cmd
}

// confirmPrune asks on a terminal whether images shall be deleted.
func (a *app) confirmPrune(unused []image.Entry) (bool, error) {
	if len(unused) == 0 {
		return true, nil // layers of interrupted pulls may be left
	}
	for _, e := range unused {
		fmt.Fprintf(a.err, "%s  %s\n", nameOrDigest(e), size(e.Size))
	}
	if f, ok := a.in.(*os.File); !ok || !isTerminal(f) {
		return false, exitWith(exitUsage, "image prune would delete %s; to do it: --yes", count(len(unused), "image"))
	}
	fmt.Fprintf(a.err, "Delete %s? [y/N] ", count(len(unused), "image"))
	var answer string
	fmt.Fscanln(a.in, &answer)
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), nil
}
