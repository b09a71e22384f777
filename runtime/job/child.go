package job

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Func does the work of one kind of job, in the child. report may be called concurrently.
type Func func(ctx context.Context, request json.RawMessage, report func(any)) (result any, err error)

var errParent = errors.New("the job was ended")

// Main is the main function of the child. It returns the exit code.
func Main(args []string, kinds map[string]Func) int {
	if len(args) != 2 || kinds[args[1]] == nil {
		fmt.Fprintf(os.Stderr, "%s: not for use by hand\n", Argv0)
		return 2
	}
	os.WriteFile("/proc/self/comm", []byte(Argv0), 0) // otherwise its name is that of the memfd
	unix.Umask(0o077)
	unix.CloseOnExec(3) // not for credential helpers
	unix.CloseOnExec(4)
	in, out := os.NewFile(3, "request"), os.NewFile(4, "reports")
	signal.Ignore(unix.SIGPIPE, unix.SIGINT, unix.SIGHUP)
	requests := bufio.NewReader(in)
	body, err := requests.ReadBytes('\n')
	if err != nil { // the parent died before it had written it
		return 1
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	go func() { // the pipe ends with the parent
		io.Copy(io.Discard, requests)
		cancel(errParent)
		time.Sleep(grace)
		os.Exit(1)
	}()
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	go func() {
		<-terminated
		cancel(errParent)
	}()
	var mu sync.Mutex // lines are written whole
	send := func(m message) error {
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		_, err = out.Write(append(b, '\n'))
		return err
	}
	result, err := kinds[args[1]](ctx, body, func(v any) {
		if b, err := json.Marshal(v); err == nil {
			send(message{Progress: b}) // a parent that is gone ends this process otherwise
		}
	})
	if err != nil {
		e := &Error{Message: err.Error()}
		var coder Coder
		if errors.As(err, &coder) {
			e.Code = coder.JobCode()
		}
		send(message{Error: e})
		return 1
	}
	b, err := json.Marshal(result)
	if err == nil {
		err = send(message{Result: b})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
