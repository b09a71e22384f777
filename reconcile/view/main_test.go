package view

import (
	"os"
	"testing"

	"stead/runtime/roottest"
)

func TestMain(m *testing.M) { os.Exit(roottest.Main(m)) }
