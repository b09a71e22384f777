package image

import (
	"os"
	"testing"

	"stead/runtime/job"
	"stead/runtime/roottest"
)

func TestMain(m *testing.M) {
	if os.Args[0] == job.Argv0 {
		os.Exit(job.Main(os.Args, JobKinds()))
	}
	os.Exit(roottest.Main(m))
}
