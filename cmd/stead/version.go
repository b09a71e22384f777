package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if output == "json" {
				return printJSON(a.out, map[string]string{
					"apiVersion": spec.APIVersion, "version": versionText(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				})
			}
			_, err := fmt.Fprintf(a.out, "stead %s (manifests %s, %s, %s/%s)\n", versionText(), spec.APIVersion, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	outputFlag(cmd, &output, "text", "json")
	return cmd
}

// versionText returns the version that the Makefile set, or that go install knows.
func versionText() string {
	info, ok := debug.ReadBuildInfo()
	if version == "" && ok && info.Main.Version != "(devel)" {
		return cmp.Or(info.Main.Version, "unknown")
	}
	return cmp.Or(version, "unknown")
}
