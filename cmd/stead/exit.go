package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
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
	exitLocked  = 6 // another process decides for the state directory
	exitHeld    = 7 // a removal waits for a confirmation, or something is on hold
	exitTimeout = 8
	exitExec    = 125 // exec's own: 126 not executable, 127 not found
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error // nil: all is said already
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

// quietly ends with a code where all is said already.
func quietly(code int) error { return &exitError{code: code} }

// usage makes an error one of the command line.
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

// plainFlagError says what a flag wants, where its parser speaks Go.
func plainFlagError(_ *cobra.Command, err error) error {
	cause := errors.Unwrap(err)
	if cause == nil {
		return err
	}
	var number *strconv.NumError
	want := ""
	switch {
	case errors.As(cause, &number) && number.Func == "ParseBool":
		want = "true or false"
	case errors.As(cause, &number):
		want = "a whole number"
	case strings.HasPrefix(cause.Error(), "time: "):
		want = "a duration such as 10s or 1m30s"
	default:
		return err
	}
	return errors.New(strings.TrimSuffix(err.Error(), cause.Error()) + "want " + want)
}

// report prints an error for people and returns its exit code.
func (a *app) report(err error) int {
	if err == nil {
		return 0
	}
	var coded *exitError
	if errors.As(err, &coded) && coded.err == nil {
		return coded.code
	}
	for _, line := range errorLines(err) {
		fmt.Fprintln(a.err, "stead: "+line)
	}
	return codeOf(err)
}

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

// errorLines are an error's lines: one for each that was gathered, and what to
// do about it where that is known.
func errorLines(err error) []string {
	var all *multierror.Error
	if errors.As(err, &all) {
		var lines []string
		for _, e := range all.Errors {
			lines = append(lines, errorLines(e)...)
		}
		return lines
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	var locked *store.Locked
	switch {
	case errors.As(err, &locked):
		text = fmt.Sprintf("another stead (process %d) holds %s; wait for it or end it", locked.Pid, locked.Dir)
	case errors.Is(err, context.Canceled):
		text = "interrupted"
	case errors.Is(err, fs.ErrPermission):
		text += "; run it as root"
	case errors.Is(err, reconcile.ErrNoContainer), errors.Is(err, status.ErrMissing):
		text += "; stead ps lists them"
	}
	return []string{text}
}
