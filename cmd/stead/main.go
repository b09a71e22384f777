// Command stead keeps one Linux host at the state that a directory of YAML
// manifests declares. This package only connects the others: it reads flags, passes a
// verb to the daemon or runs it in this process, and prints the result. Each verb has a
// file; app.go, flags.go, host.go, exit.go and print.go hold what they share.
package main

import (
	"context"
	"maps"
	"os"
	"os/signal"
	"syscall"

	"stead/runtime"
	"stead/runtime/filecopy"
	"stead/runtime/image"
	"stead/runtime/job"
	"stead/runtime/keeper"
)

// version is set by the Makefile.
var version = ""

func main() {
	// The keeper is this same binary under another name. It must stay small, so nothing
	// else may come first.
	if os.Args[0] == keeper.Argv0 {
		os.Exit(keeper.Main(os.Args))
	}
	if os.Args[0] == job.Argv0 {
		kinds := image.JobKinds()
		maps.Copy(kinds, runtime.BackupJobKinds())
		maps.Copy(kinds, runtime.VolumeJobKinds())
		maps.Copy(kinds, filecopy.JobKinds())
		os.Exit(job.Main(os.Args, kinds))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	a := &app{in: os.Stdin, out: &output{file: os.Stdout}, err: os.Stderr}
	os.Exit(a.run(ctx, os.Args[1:]))
}
