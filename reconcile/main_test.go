package reconcile

import (
	"maps"
	"os"
	"testing"

	"stead/runtime"
	"stead/runtime/image"
	runtimejob "stead/runtime/job"
	"stead/runtime/keeper"
	"stead/runtime/roottest"
)

func TestMain(m *testing.M) {
	if os.Args[0] == keeper.Argv0 { // the test binary is the keeper of its tests
		os.Exit(keeper.Main(os.Args))
	}
	if os.Args[0] == runtimejob.Argv0 { // and its jobs
		kinds := image.JobKinds()
		maps.Copy(kinds, runtime.VolumeJobKinds())
		os.Exit(runtimejob.Main(os.Args, kinds))
	}
	os.Exit(roottest.Main(m))
}
