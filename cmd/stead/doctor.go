package main

import (
	"context"
	"errors"
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
		Short: "Check what this host supports, and how to fix what is missing",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
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
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// processes checks the daemon and the keeper. It is no failure if they are not running.
func (a *app) processes(ctx context.Context) []doctor.Check {
	d := doctor.Check{Name: "daemon", Level: doctor.OK, Found: "is running"}
	h, err := a.dial(ctx)
	if h == nil {
		d.Found = "is not running"
		if err != nil {
			d.Found = err.Error()
		}
		d.Level, d.Advice = doctor.Warning, "start it: systemctl start stead, or stead daemon"
	}
	k := doctor.Check{Name: "keeper", Level: doctor.OK}
	pid, live, err := keeper.Client{Run: a.runDir}.Ping(ctx)
	var silent *keeper.SilentError
	switch {
	case errors.As(err, &silent):
		k.Level, k.Found, k.Advice = doctor.Missing, silent.Error(), silent.Advice
	case err != nil:
		k.Found = "is not running; it starts with the first container"
	default:
		k.Found = fmt.Sprintf("process %d holds %s", pid, count(live, "container"))
	}
	return append([]doctor.Check{d, k}, a.watching(ctx, h)...)
}

// watching checks for manifest directories in which stead notices changes late.
func (a *app) watching(ctx context.Context, h *host) (checks []doctor.Check) {
	for _, dir := range a.manifests {
		if kind := source.Shared(dir); kind != "" {
			checks = append(checks, doctor.Check{
				Name: "manifests", Level: doctor.Warning, Found: dir + " is on " + kind + ": changes there are not notified, so stead reads it every " + source.Poll.String(),
				Advice: "run stead reload after an urgent change",
			})
		}
	}
	if h == nil {
		return checks
	}
	if r, err := h.Status(ctx); err == nil && r.Watching != "" {
		checks = append(checks, doctor.Check{
			Name: "watching", Level: doctor.Warning, Found: fmt.Sprintf("inotify is unavailable; the daemon polls some manifests every %s: %s", source.Poll, r.Watching),
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
