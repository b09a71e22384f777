package main

import (
	"context"
	"fmt"
	"os"

	"stead/reconcile/source"
	"stead/runtime/doctor"
	"stead/runtime/keeper"
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) doctorCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host can and can't do, and what to do about it",
		Long: `doctor looks at what containers need of this kernel and host, tries what is cheap
to try, and says for each thing that is lacking what to do about it. It exits
with 1 if something is lacking without which no container runs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("output", output, "text", "json"); err != nil {
				return err
			}
			checks := doctor.Run(doctor.Options{StateDir: a.stateDir, CgroupParent: a.cgroupParent, Manifests: a.manifests}, os.Geteuid())
			checks = append(checks, a.processes(cmd.Context())...)
			if err := a.printChecks(checks, output); err != nil {
				return err
			}
			if !doctor.Fit(checks) {
				return quietly(exitFailure)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// processes are the daemon and the keeper. That they don't run is no fault.
func (a *app) processes(ctx context.Context) []doctor.Check {
	d := doctor.Check{Name: "daemon", Level: doctor.OK, Found: "runs"}
	h, err := a.dial(ctx)
	if h == nil {
		d.Found = "does not run"
		if err != nil {
			d.Found = err.Error()
		}
		d.Level, d.Advice = doctor.Warning, "start it: systemctl start stead, or stead daemon"
	}
	k := doctor.Check{Name: "keeper", Level: doctor.OK}
	pid, live, err := keeper.Client{Run: a.runDir}.Ping(ctx)
	if k.Found = fmt.Sprintf("process %d holds %s", pid, count(live, "container")); err != nil {
		k.Found = "does not run; it starts with the first container"
	}
	return append([]doctor.Check{d, k}, a.noticing(ctx, h)...)
}

// noticing are the manifest directories whose changes take a while to be noticed.
func (a *app) noticing(ctx context.Context, h *host) (checks []doctor.Check) {
	for _, dir := range a.manifests {
		if kind := source.Shared(dir); kind != "" {
			checks = append(checks, doctor.Check{
				Name: "manifests", Level: doctor.Warning, Found: dir + " is on " + kind + ": what others change there is noticed within a minute",
				Advice: "stead reload after a change that can't wait",
			})
		}
	}
	if h == nil {
		return checks
	}
	if r, err := h.Status(ctx); err == nil && r.Watching != "" {
		checks = append(checks, doctor.Check{
			Name: "watching", Level: doctor.Warning, Found: fmt.Sprintf("the daemon notices some changes only by looking every %s: %s", source.Poll, r.Watching),
			Advice: "sysctl -w fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512",
		})
	}
	return checks
}

func (a *app) printChecks(checks []doctor.Check, output string) error {
	if output == "json" {
		return printJSON(a.out, struct {
			APIVersion string         `json:"apiVersion"`
			Fit        bool           `json:"fit"`
			Checks     []doctor.Check `json:"checks"`
		}{spec.APIVersion, doctor.Fit(checks), checks})
	}
	for _, c := range checks {
		fmt.Fprintf(a.out, "%-7s  %-15s  %s\n", c.Level, c.Name, c.Found)
		if c.Advice != "" {
			fmt.Fprintf(a.out, "%-7s  %-15s  → %s\n", "", "", c.Advice)
		}
	}
	return nil
}
