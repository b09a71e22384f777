package backup

import (
	"os"
	"testing"

	"stead/runtime/keeper"
	"stead/runtime/roottest"
)

func TestMain(m *testing.M) {
	if os.Args[0] == keeper.Argv0 {
		os.Exit(keeper.Main(os.Args))
	}
	os.Exit(roottest.Main(m))
}
