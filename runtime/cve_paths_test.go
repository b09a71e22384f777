package runtime

import (
	"fmt"
	"os"
	"strings"

	"stead/runtime/status"
)

func mountOverProc(w *world) string {
	root := w.hostileRoot("root", "x -> proc", "y -> ./usr/../proc", "proc/")
	fake := w.hostileRoot("fake", "self/", "sys/kernel/")
	for _, x := range []string{"x", "y"} {
		if err := w.evil(x, "proc", usr+", /"+x+": {source: "+fake+"}", "rootfs: {path: "+root+"}"); err != nil {
			w.t.Log(err)
			continue
		}
		w.await(x, status.Exited)
	}
	return w.escapes("x") + w.escapes("y")
}

func swapProc(w *world) string {
	root := w.hostileRoot("root", "proc/", "other/", "evil -> other")
	w.swapper(root, "proc", "evil")
	w.evil("victim", "procs", usr, "rootfs: {path: "+root+"}\nargs: [/proc, /evil, /other]")
	w.await("victim", status.Exited)
	w.again("victim", rounds())
	return w.escapes("victim")
}

func linkProc(w *world) string {
	root := w.hostileRoot("root", "proc -> vol/x", "sys -> vol/x/../s", "vol/")
	volume := w.hostileRoot("volume", "a/", "b/", "s/", "x -> a", "y -> b")
	w.swapper(volume, "x", "y")
	w.evil("victim", "procs", usr+", /vol: {source: "+volume+"}", "rootfs: {path: "+root+"}\nargs: [/proc, /vol/a, /vol/b]")
	w.await("victim", status.Exited)
	w.again("victim", rounds())
	return w.escapes("victim")
}

func swapTarget(w *world) string {
	volume := w.hostileRoot("volume", "x/", "y -> /empty") // which is what hides directories, outside of the root
	gotcha := w.hostileRoot("gotcha", "gotcha/")
	w.swapper(volume, "x", "y")
	w.evil("victim", "gotcha", ", /data: {source: "+volume+"}, /data/x: {source: "+gotcha+"}", "")
	w.await("victim", status.Exited)
	w.again("victim", rounds())
	return w.escapes("victim")
}

func linkSource(w *world) string {
	secret := w.hostileRoot("secret", "gotcha/")
	volume := w.hostileRoot("volume", "x/", "y -> "+secret, "z -> x")
	w.swapper(volume, "x", "y")
	for _, at := range []string{"x", "y", "z"} {
		// That refuses links to a place where it may have been, too.
		w.evil(at, "gotcha", ", /mnt: {source: "+volume+"/"+at+"}", "")
		w.again(at, rounds()/3)
	}
	// Its maker may be gone; what it made is not to be trusted for that.
	if err := w.Remove(ctx, "swapper"); err != nil {
		w.t.Fatal(err)
	}
	w.reopen()
	os.RemoveAll(volume + "/y")
	os.Symlink(secret, volume+"/y")
	err := w.evil("later", "gotcha", ", /mnt: {source: "+volume+"/y}", "")
	if err == nil {
		w.await("later", status.Exited)
		return "later " + w.escapes("later")
	} else if !strings.Contains(err.Error(), volume+"/y is a symbolic link, and a container can write to "+volume+", or once could; write the path that it leads to") {
		w.t.Error(err)
	}
	return w.escapes("x") + w.escapes("y") + w.escapes("z")
}

func makeOutside(w *world) string {
	host := w.path("host")
	os.Mkdir(host, 0o755)
	root := w.hostileRoot("root", "data/x/", "data/y -> "+host, "data/z -> ../../host")
	w.swapper(root+"/data", "x", "y")
	for i := range races(rounds()) {
		target := "/data/" + []string{"x", "x", "y", "z"}[i%4]
		if w.evil("victim", "nothing", fmt.Sprintf("%s, %s/new-%d: {tmpfs: {}}", usr, target, i), "rootfs: {path: "+root+"}") == nil {
			w.await("victim", status.Exited)
		}
		if err := w.Remove(ctx, "victim"); err != nil {
			w.t.Fatal(err)
		}
		if made, _ := os.ReadDir(host); len(made) > 0 {
			return fmt.Sprint("on the host: ", made)
		}
	}
	return ""
}

func linkNull(w *world) string {
	root := w.hostileRoot("root", "dev/null -> ../proc/sys/kernel/core_pattern", "dev/zero -> ../proc/sysrq-trigger", "proc/")
	if err := w.evil("evil", "proc", usr, "rootfs: {path: "+root+"}\nsecurity: {userns: host}"); err != nil {
		w.t.Fatal(err)
	}
	w.await("evil", status.Exited)
	return w.escapes("evil")
}

func linkConsole(w *world) string {
	const target = "proc/sys/kernel/core_pattern"
	root := w.hostileRoot("root", "dev/pts/0 -> ../../"+target, "dev/console -> ../"+target, "dev/tty -> ../"+target, "dev/ptmx -> ../"+target, "proc/")
	if err := w.evil("evil", "console", usr, "rootfs: {path: "+root+"}\nsecurity: {userns: host, capabilities: {add: [SYS_ADMIN]}}"); err != nil {
		w.t.Fatal(err)
	}
	w.awaitOutput("evil", "waiting")
	escaped := w.escapes("evil")
	// By now its /dev/pts/ptmx is a link to a file of the kernel's.
	x, err := w.Exec(ctx, "evil", ExecOptions{Argv: []string{"true"}})
	if err == nil {
		x.Terminal.Close()
		x.Wait()
		escaped += "a terminal was made of it"
	}
	return escaped
}
