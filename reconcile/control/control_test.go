package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"stead/reconcile"
	"stead/reconcile/plan"
	"stead/reconcile/view"
	"stead/spec"

	"stead/runtime/roottest"
)

// fake answers as it is told.
type fake struct {
	asked chan string
	hang  bool // Apply waits for its ctx
}

func (f *fake) Status(context.Context) (view.Report, error) {
	code := 3
	return view.Report{
		Since:      time.Date(2026, 11, 23, 4, 15, 0, 0, time.UTC),
		Sources:    []view.Source{{Path: "/etc/stead/manifests", Healthy: true, Files: 1}},
		Containers: []view.Container{{Name: "web", State: view.Failed, ExitCode: &code, Labels: map[string]string{"app": "web"}}},
	}, nil
}

func (f *fake) Plan(context.Context) (plan.Plan, error) {
	return plan.Plan{Actions: []plan.Action{{
		Verb: plan.Update, Subject: plan.ContainerNamed("web"), Cause: "live",
		Changes: []plan.Change{{Path: "spec.resources.memory", Before: "128Mi", After: "256Mi", Effect: spec.Live}},
	}}}, nil
}

func (f *fake) Apply(ctx context.Context, o reconcile.ApplyOptions) (reconcile.Result, error) {
	o.Progress(reconcile.Progress{Name: "web", Line: "create web  (manifest web.yaml)"})
	if f.hang {
		f.asked <- "apply"
		<-ctx.Done()
		f.asked <- "gone"
		return reconcile.Result{}, ctx.Err()
	}
	o.Progress(reconcile.Progress{Name: "web", Line: "confirmed " + strings.Join(o.Confirm, " "), Ended: true})
	return reconcile.Result{Containers: []reconcile.ContainerResult{{Name: "web", Actions: []plan.Verb{plan.Create}}}}, nil
}

func (f *fake) Do(_ context.Context, verb plan.Verb, names []string) (reconcile.Result, error) {
	return reconcile.Result{Containers: []reconcile.ContainerResult{{Name: names[0], Actions: []plan.Verb{verb}}}},
		fmt.Errorf("%s %s: %w", verb, names[0], reconcile.ErrNoContainer)
}

func (f *fake) Hold(_ context.Context, o reconcile.HoldOptions) error {
	return fmt.Errorf("hold %v: %s: %w", o.Names, o.Reason, reconcile.ErrNoContainer)
}

func (f *fake) Release(_ context.Context, names []string) error {
	return fmt.Errorf("release %v: %w", names, reconcile.ErrNoContainer)
}

func (f *fake) Purge(_ context.Context, name string) ([]string, error) {
	return []string{name + "@1", name + "@2"}, errors.New("one is left")
}

func (f *fake) Restore(_ context.Context, o reconcile.RestoreOptions) (string, error) {
	return o.Name + " from " + o.Data, nil
}

func (f *fake) Reload(context.Context) error { return nil }

// serving starts a daemon's end and returns the socket's path.
func serving(t *testing.T, c Controller) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, c, nil) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(roottest.Patience):
			t.Error("the server did not end")
		}
		goleak.VerifyNone(t)
	})
	return path
}

func TestClientSaysWhatTheLoopSays(t *testing.T) {
	loop := &fake{}
	path := serving(t, loop)
	client, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	want, _ := loop.Status(ctx)
	if got, err := client.Status(ctx); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("status: got %+v, %v, want %+v", got, err, want)
	}
	wantPlan, _ := loop.Plan(ctx)
	if got, err := client.Plan(ctx); err != nil || got.String() != wantPlan.String() || got.String() == "" {
		t.Errorf("plan: got %q, %v, want %q", got, err, wantPlan)
	}
	var lines []string
	result, err := client.Apply(ctx, reconcile.ApplyOptions{Confirm: []string{"a", "b"}, Progress: func(p reconcile.Progress) { lines = append(lines, fmt.Sprintf("%s: %v", p.Line, p.Ended)) }})
	if err != nil || !result.Changed() || strings.Join(lines, "; ") != "create web  (manifest web.yaml): false; confirmed a b: true" {
		t.Errorf("apply: got %+v, %v after %q", result, err, lines)
	}
	result, err = client.Do(ctx, plan.Restart, []string{"web"})
	if !errors.Is(err, reconcile.ErrNoContainer) || err.Error() != "restart web: no such container" || len(result.Containers) != 1 {
		t.Errorf("do: got %+v, %v; the error must be the same one", result, err)
	}
	o := reconcile.HoldOptions{Names: []string{"web"}, Reason: "surgery"}
	if err := client.Hold(ctx, o); !errors.Is(err, reconcile.ErrNoContainer) || err.Error() != loop.Hold(ctx, o).Error() {
		t.Errorf("hold: %v", err)
	}
	if err := client.Release(ctx, o.Names); !errors.Is(err, reconcile.ErrNoContainer) || err.Error() != loop.Release(ctx, o.Names).Error() {
		t.Errorf("release: %v", err)
	}
	if gone, err := client.Purge(ctx, "web"); err == nil || err.Error() != "one is left" || strings.Join(gone, " ") != "web@1 web@2" {
		t.Errorf("purge: %q, %v", gone, err)
	}
	if note, err := client.Restore(ctx, reconcile.RestoreOptions{Name: "web", Data: "/x"}); err != nil || note != "web from /x" {
		t.Errorf("restore: %q, %v", note, err)
	}
	if err := client.Reload(ctx); err != nil {
		t.Errorf("reload: %v", err)
	}
}

func TestSocketIsPrivate(t *testing.T) {
	path := serving(t, &fake{})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.sock")
	dead, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	if _, err := Dial(path); err == nil {
		t.Error("nobody answers, and no error")
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatalf("with the socket of a dead daemon there: %v", err)
	}
	l.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a file that is no socket was replaced")
	}
	if _, err := Dial(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no daemon: got %v, want one that wraps os.ErrNotExist", err)
	}
}

func TestBadClientsHarmNobody(t *testing.T) {
	path := serving(t, &fake{})
	for range 100 { // that hang
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	post := func(route, body string) string {
		return fmt.Sprintf("POST /v1/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", route, len(body), body)
	}
	for _, bad := range []struct{ request, status, want string }{
		{"nonsense\r\n\r\n", "400", "Bad Request"},
		{post("explode", "{}"), "404", "POST /v1/explode is no request of this daemon"},
		{post("status", "{}"), "404", "POST /v1/status is no request of this daemon"},
		{post("stop", `{"names": ["web"`), "400", "read the request: unexpected EOF"},
		{post("stop", `{"name": ["web"]}`), "400", `unknown field \"name\"`},
		{post("stop", `{"names": ["web"], "reason": "no"}`), "400", "POST /v1/stop takes no Reason"},
		{post("purge", `{"names": ["a", "b"]}`), "400", "purge: want one name, got 2"},
		{post("stop", strings.Repeat("x", maxRequest+1)), "400", "too large"},
		{post("stop", `{"names": ["web"]}`), "404", `"code":"no-such-container"`},
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, bad.request)
		reply, _ := io.ReadAll(conn)
		conn.Close()
		if !strings.HasPrefix(string(reply), "HTTP/1.1 "+bad.status) || !strings.Contains(string(reply), bad.want) {
			t.Errorf("%.80q: got %q, want status %s and %q in it", bad.request, reply, bad.status, bad.want)
		}
	}
	if _, err := Dial(path); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// Whoever asks with curl gets the plain result; with any client, the lines of a stream come
// as they are made.
func TestPlainHTTP(t *testing.T) {
	loop := &fake{hang: true, asked: make(chan string)}
	path := serving(t, loop)
	send := func(request string) (net.Conn, *bufio.Reader) {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		_, _ = io.WriteString(conn, request)
		return conn, bufio.NewReader(conn)
	}
	_, in := send("GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	reply, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(reply.Body)
	var got view.Report
	if want, _ := loop.Status(t.Context()); json.Unmarshal(body, &got) != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("status: %s", body)
	}
	conn, in := send("POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
	if reply, err = http.ReadResponse(in, nil); err != nil {
		t.Fatal(err)
	}
	<-loop.asked // it hangs now, after one line
	if line, err := bufio.NewReader(reply.Body).ReadString('\n'); err != nil || line != `{"progress":{"name":"web","line":"create web  (manifest web.yaml)"}}`+"\n" {
		t.Errorf("the first line: %q, %v", line, err)
	}
	conn.Close()
	<-loop.asked // it ended, since the client is gone
}

func TestClientThatGoesAway(t *testing.T) {
	loop := &fake{hang: true, asked: make(chan string)}
	path := serving(t, loop)
	client, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := client.Apply(ctx, reconcile.ApplyOptions{})
		answered <- err
	}()
	<-loop.asked
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("the client's error is %v, want that of its ctx", err)
	}
	if said := <-loop.asked; said != "gone" {
		t.Errorf("the loop was not told that nobody waits any more: %q", said)
	}
}
