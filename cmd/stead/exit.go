package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"stead/reconcile"
	"stead/runtime/status"
	"stead/runtime/store"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"
)

// Exit codes; scripts depend on them.
const (
	exitFailure = 1
	exitUsage   = 2
	exitDiffers = 3 // plan, apply --exit-code, status
	exitInvalid = 4 // a manifest has errors
	exitMissing = 5 // no such container
	exitLocked  = 6 // another process holds the lock of the state directory
	exitHeld    = 7 // a removal waits for a confirmation, or something is on hold
	exitTimeout = 8
	exitExec    = 125 // exec itself failed; 126 is not executable, 127 not found
)

// exitError is an error with its own exit code.
type exitError struct {
	code int
	err  error // nil if everything is printed already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// exitWith gives an error an exit code.
func exitWith(code int, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// quietly returns an error that prints nothing, or nil if the code is 0.
func quietly(code int) error {
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

// usage turns err into an error of the command line.
func usage(cmd *cobra.Command, err error) error {
	var coded *exitError
	if errors.As(err, &coded) {
		return err
	}
	code := exitUsage
	if cmd.Name() == "exec" {
		code = exitExec
	}
	return exitWith(code, "%w; see %s --help", err, cmd.CommandPath())
}

// report prints an error and returns its exit code.
func (a *app) report(err error) int {
	if err == nil {
		return 0
	}
	var coded *exitError
	if errors.As(err, &coded) && coded.err == nil {
		return coded.code
	}
	lines := errorLines(err)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		if a.verb == "plan" || a.verb == "validate" {
			lines[len(lines)-1] += "; run it as root"
		} else {
			lines = []string{fmt.Sprintf("%s needs root: sudo stead %[1]s", a.verb)}
		}
	}
	for _, line := range lines {
		fmt.Fprintln(a.err, "stead: "+line)
	}
	return codeOf(err)
}

// codeOf returns the exit code of an error.
func codeOf(err error) int {
	var coded *exitError
	var locked *store.Locked
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &locked):
		return exitLocked
	case errors.Is(err, reconcile.ErrNoContainer), errors.Is(err, status.ErrMissing):
		return exitMissing
	}
	return exitFailure
}

// errorLines returns the text of an error, one line for each error in it.
func errorLines(err error) []string {
	text := err.Error()
	var all *multierror.Error
	if errors.As(err, &all) {
		var lines []string
		for _, e := range all.Errors {
			lines = append(lines, errorLines(e)...)
		}
		if text == all.Error() {
			return lines
		}
		text = strings.Replace(text, all.Error(), strings.Join(lines, "; "), 1) // what wraps them stays
	}
	text = strings.ReplaceAll(text, "\n", "; ")
	var locked *store.Locked
	switch {
	case errors.As(err, &locked):
		text = fmt.Sprintf("another stead (process %d) has locked %s; wait until it ends, or end it", locked.Pid, locked.Dir)
	case errors.Is(err, context.Canceled):
		text = "interrupted"
	}
	return []string{clean(text)} // names of files in it may be a container's
}
