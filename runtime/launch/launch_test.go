package launch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// bench is one launcher with a place for roots and files.
type bench struct {
	*Launcher
	t   testing.TB
	dir string
	n   int
	mu  sync.Mutex
}

func newBench(t testing.TB) *bench {
	roottest.Need(t)
	dir := t.TempDir()
	os.Chmod(dir, 0o700)
	os.Mkdir(filepath.Join(dir, "nursery"), 0o700)
	l, err := NewLauncher(filepath.Join(dir, "nursery"), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return &bench{Launcher: l, t: t, dir: dir}
}

// config is a container with a root of its own that runs a shell script.
func (b *bench) config(script string) *Config {
	b.mu.Lock()
	b.n++
	nonce := fmt.Sprintf("%04d", b.n)
	b.mu.Unlock()
	root := filepath.Join(b.dir, "root"+nonce)
	for _, d := range []string{"proc", "sys", "dev", "usr", "tmp", "etc", "var"} {
		os.MkdirAll(filepath.Join(root, d), 0o755)
	}
	for _, l := range []string{"bin", "lib", "lib64", "sbin"} {
		os.Symlink("usr/"+l, filepath.Join(root, l))
	}
	c := &Config{
		Name: "test", Nonce: nonce, IDBase: 0x80000, Hostname: "inside",
		Root: Root{Path: root, Usr: "/usr"},
		Process: Process{
			Argv: []string{"sh", "-c", script}, Paths: []string{"/usr/local/bin/sh", "/bin/sh"},
			Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, WorkingDir: "/", NoNewPrivs: true,
			Caps: Caps{Bounding: 0xa80425fb, Effective: 0xa80425fb},
		},
	}
	for name, at := range map[string]*string{"out": &c.Stdout, "err": &c.Stderr} {
		*at = filepath.Join(b.dir, name+nonce)
		if err := unix.Mkfifo(*at, 0o622); err != nil {
			b.t.Fatal(err)
		}
		os.Chmod(*at, 0o622)
		os.Chown(*at, int(c.IDBase), int(c.IDBase))
	}
	c.Ran = filepath.Join(b.dir, "ran"+nonce)
	os.WriteFile(c.Ran, nil, 0o600)
	return c
}

// run starts c, waits for its end and gives its exit code and output.
func (b *bench) run(c *Config) (code int, out, errOut string, err error) {
	var pid int
	fo, _ := unix.Open(c.Stdout, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	fe, _ := unix.Open(c.Stderr, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	defer unix.Close(fo)
	defer unix.Close(fe)
	err = b.Start(c, func(p int) error { pid = p; return nil })
	if pid > 0 {
		var ws unix.WaitStatus
		unix.Wait4(pid, &ws, 0, nil)
		code = ws.ExitStatus()
		if ws.Signaled() {
			code = 128 + int(ws.Signal())
		}
	}
	return code, drain(fo), drain(fe), err
}

func drain(fd int) string {
	var all bytes.Buffer
	buf := make([]byte, 65536)
	for {
		n, _ := unix.Read(fd, buf)
		if n <= 0 {
			return all.String()
		}
		all.Write(buf[:n])
	}
}

func TestStart(t *testing.T) {
	b := newBench(t)
	c := b.config(`id -u; cat /proc/self/uid_map | tr -s " "; hostname; echo to-err >/dev/stderr; echo to-out >/dev/stdout
		echo pid $$; grep -E "^(CapBnd|CapEff|NoNewPrivs|SigBlk|SigIgn)" /proc/self/status; ls /proc/self/fd | tr "\n" " "
		touch /tmp/made && mknod /tmp/n c 1 3 2>/dev/null && echo MKNOD; touch /usr/x 2>/dev/null && echo USR; exit 7`)
	code, out, errOut, err := b.run(c)
	if err != nil || code != 7 {
		t.Fatalf("code %d, error %v\n%s%s", code, err, out, errOut)
	}
	for _, want := range []string{"0\n 0 524288 65536\n", "inside\n", "to-out\n", "pid 1\n", "CapBnd:\t00000000a80425fb", "CapEff:\t00000000a80425fb", "NoNewPrivs:\t1", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000", "0 1 2 3 "} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	for _, never := range []string{"MKNOD", "USR"} {
		if strings.Contains(out, never) {
			t.Errorf("%s was allowed", never)
		}
	}
	if errOut != "to-err\n" {
		t.Errorf("stderr %q", errOut)
	}
	var st unix.Stat_t
	if unix.Stat(c.Root.Path+"/tmp/made", &st); st.Uid != 0 {
		t.Errorf("file on disk belongs to %d, want plain 0", st.Uid)
	}
	if ran, failed, err := ReadRan(c.Ran); !ran || failed != nil || err != nil {
		t.Errorf("ran file says %v %v %v", ran, failed, err)
	}
}

func TestStartFails(t *testing.T) {
	b := newBench(t)
	tests := []struct {
		summary string
		change  func(c *Config)
		where   Where
		errno   unix.Errno
	}{
		{"command not found", func(c *Config) { c.Process.Paths = []string{"/bin/nope"} }, AtCommand, unix.ENOENT},
		{"command not executable", func(c *Config) { c.Process.Paths = []string{"/etc", "/nope"} }, AtCommand, unix.EACCES},
		{"no root", func(c *Config) { c.Root.Path = "/nonexistent" }, AtRoot, unix.ENOENT},
		{"/proc is a file", func(c *Config) {
			os.Remove(c.Root.Path + "/proc")
			os.WriteFile(c.Root.Path+"/proc", nil, 0o644)
		}, AtRoot, unix.ENOTDIR},
		{"/dev is a link", func(c *Config) {
			os.Remove(c.Root.Path + "/dev")
			os.Symlink("tmp", c.Root.Path+"/dev")
		}, AtRoot, unix.ELOOP},
		{"mount source missing", func(c *Config) { c.Mounts = []Mount{{Source: "/nonexistent", Target: "/mnt"}} }, AtSource, unix.ENOENT},
		{"mount source has become a link", func(c *Config) {
			os.Symlink("/etc", c.Root.Path+"/elsewhere")
			c.Mounts = []Mount{{Source: c.Root.Path + "/elsewhere", Target: "/mnt"}}
		}, AtSource, unix.ELOOP},
		{"mount target leaves the root", func(c *Config) {
			os.Symlink("/etc", c.Root.Path+"/mnt")
			c.Mounts = []Mount{{Source: "/usr", Target: "/mnt/x"}}
		}, AtTarget, unix.EXDEV},
		{"file over directory", func(c *Config) { c.Mounts = []Mount{{Source: "/etc/passwd", Target: "/var"}} }, AtTarget, unix.ENOTDIR},
		{"working directory missing", func(c *Config) { c.Process.WorkingDir = "/nope" }, AtStep, unix.ENOENT},
		{"ulimit over the host's", func(c *Config) {
			c.Process.Rlimits = []Rlimit{{"nofile", unix.RLIMIT_NOFILE, 1 << 30, 1 << 30}}
		}, AtStep, unix.EPERM},
	}
	before := openDescriptors(t)
	for _, tt := range tests {
		c := b.config("true")
		tt.change(c)
		_, _, _, err := b.run(c)
		var e *Error
		if !errors.As(err, &e) || e.Where != tt.where || e.Errno != tt.errno {
			t.Errorf("%s: got %v (%+v)", tt.summary, err, e)
			continue
		}
		t.Logf("%s: %v", tt.summary, err)
	}
	if now := openDescriptors(t); now > before+len(tests)/2 { // Go opens some of its own
		t.Errorf("%d descriptors are open, %d were before", now, before)
	}
}

func TestBornFails(t *testing.T) {
	b := newBench(t)
	want := errors.New("record lost")
	var pid int
	c := b.config("true")
	err := b.Start(c, func(p int) error { pid = p; return want })
	if !errors.Is(err, want) {
		t.Fatalf("got %v", err)
	}
	var ws unix.WaitStatus
	unix.Wait4(pid, &ws, 0, nil)
	if ran, _, _ := ReadRan(c.Ran); ran {
		t.Error("the command ran without a record")
	}
}

func TestMounts(t *testing.T) {
	b := newBench(t)
	data := t.TempDir()
	c := b.config(`echo in >/data/made; touch /ro/x 2>&1; touch /data/sub/f && echo sub; stat -c %u:%a /scratch; df /scratch | tail -1 | tr -s " " | cut -d" " -f2; cat /file`)
	os.WriteFile(data+"/file", []byte("hello\n"), 0o644)
	c.Root.ReadOnly = true
	c.Mounts = []Mount{
		{Source: data, Target: "/data"}, {Source: data, Target: "/ro", ReadOnly: true},
		{Target: "/scratch", Size: 1 << 20, Mode: 0o1777}, {Target: "/data/sub", Size: 1 << 20, Mode: 0o755}, {Source: data + "/file", Target: "/file"},
	}
	code, out, errOut, err := b.run(c)
	if err != nil || code != 0 {
		t.Fatal(code, out, errOut, err)
	}
	want := "touch: cannot touch '/ro/x': Read-only file system\nsub\n0:1777\n1024\nhello\n"
	if out != want {
		t.Errorf("got %q %q, want %q", out, errOut, want)
	}
}

func TestManyAtOnce(t *testing.T) {
	b := newBench(t)
	var wait sync.WaitGroup
	for range 4 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for range 25 {
				if code, _, _, err := b.run(b.config("true")); code != 0 || err != nil {
					t.Errorf("code %d, error %v", code, err)
				}
			}
		}()
	}
	wait.Wait()
}

func BenchmarkStart(b *testing.B) {
	be := newBench(b)
	configs := make([]*Config, b.N)
	for i := range configs {
		configs[i] = be.config("true")
		configs[i].Process.Paths = []string{"/bin/true"}
	}
	b.ResetTimer()
	start := time.Now()
	for _, c := range configs {
		if code, _, _, err := be.run(c); code != 0 || err != nil {
			b.Fatal(code, err)
		}
	}
	b.ReportMetric(float64(time.Since(start).Microseconds())/1000/float64(b.N), "ms/container")
}

func TestInit(t *testing.T) {
	b := newBench(t)
	tests := []struct {
		summary, script string
		code            int
		out             string
	}{
		{"the command is not pid 1, pid 1 is init", "[ $$ != 1 ] && cat /proc/1/comm; cat /proc/1/exe 2>&1 | head -c 40", 0, "stead-init\ncat: /proc/1/exe: Permission denied\n"},
		{"exit code", "exit 42", 42, ""},
		{"death by signal", "kill -SEGV $$", 139, ""},
		{"orphans are reaped", "sh -c 'sh -c \"exit 3\" & exit 0'; sleep 0.1; ps -o stat= -e | grep -c Z; true", 0, "0\n"},
		{"signals reach the command", "trap 'echo got; exit 5' TERM; kill -TERM 1; sleep 5 & wait", 5, "got\n"},
	}
	for _, tt := range tests {
		c := b.config(tt.script)
		c.Process.Init = true
		code, out, errOut, err := b.run(c)
		if err != nil || code != tt.code || out != tt.out {
			t.Errorf("%s: code %d, out %q, err %q, error %v", tt.summary, code, out, errOut, err)
		}
	}
	c := b.config("true")
	c.Process.Init, c.Process.Paths = true, []string{"/bin/nope"}
	var e *Error
	if _, _, _, err := b.run(c); !errors.As(err, &e) || e.Where != AtCommand {
		t.Errorf("a command that is not there: %v", err)
	}
}
