package main

import (
	"stead/spec"

	"github.com/spf13/cobra"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of a manifest, for editors and CI", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := spec.Schema()
			if err != nil {
				return err
			}
			_, err = a.out.Write(b)
			return err
		},
	}
}
