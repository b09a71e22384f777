// floor.c - the physical limit that container start-up is measured against: the
// kernel work that a fully isolated container needs, in plain C, one process a
// worker, with no record, no log and no supervision.
//
//   floor ROOT N WORKERS [userns]
//
// For each container: a v1 cgroup with limits in memory, cpu and pids; all
// namespaces (with `userns` a user namespace, too, and an idmapped root); proc,
// sysfs, a /dev of its own; masked and read-only paths; pivot_root; capabilities,
// no_new_privs, a seccomp filter of a default profile's size; execve of ROOT's
// /bin/true; and all of it removed. Prints milliseconds per container.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
enum { RDONLY = 1, NOSUID = 2, NODEV = 4, NOEXEC = 8, REMOUNT = 32, BIND = 4096, REC = 16384, PRIVATE = 1 << 18, SLAVE = 1 << 19, DETACH = 2 };

static void check(long r, const char *what)
{
	if (r < 0) {
		fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
		_exit(1);
	}
}
#define CK(x) check((long)(x), #x)

static void put(const char *path, const char *text)
{
	int f = open(path, O_WRONLY);
	check(f, path);
	check(write(f, text, strlen(text)), path);
	close(f);
}

static const char *const controllers[] = {"memory", "cpu", "pids"};
static const char *const files[] = {"memory.limit_in_bytes", "cpu.cfs_quota_us", "pids.max"};
static const char *const values[] = {"67108864", "50000", "64"};
static const char *const nodes[] = {"null", "zero", "full", "random", "urandom", "tty"};
static const char *const masked[] = {"kcore", "keys", "timer_list", "interrupts", "latency_stats"};
static const char *const protect[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};

static void devices(void)
{
	char node[64], host[64];
	CK(mount("tmpfs", "dev", "tmpfs", NOSUID, "mode=755,size=64k"));
	for (int k = 0; k < 6; k++) { // binds, as mknod is not for a user namespace
		snprintf(node, sizeof node, "dev/%s", nodes[k]), snprintf(host, sizeof host, "/dev/%s", nodes[k]);
		close(open(node, O_CREAT | O_WRONLY, 0666));
		CK(mount(host, node, NULL, BIND, NULL));
	}
	mkdir("dev/pts", 0755), mkdir("dev/shm", 0755), mkdir("dev/mqueue", 0755);
	CK(mount("devpts", "dev/pts", "devpts", NOSUID | NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
	CK(mount("shm", "dev/shm", "tmpfs", NOSUID | NODEV | NOEXEC, "mode=1777,size=64m"));
	CK(mount("mqueue", "dev/mqueue", "mqueue", NOSUID | NODEV | NOEXEC, NULL));
}

static void kernel_fs(void)
{
	char p[64];
	CK(mount("proc", "proc", "proc", NOSUID | NODEV | NOEXEC, NULL));
	CK(mount("sysfs", "sys", "sysfs", NOSUID | NODEV | NOEXEC | RDONLY, NULL));
	for (int k = 0; k < 5; k++)
		snprintf(p, sizeof p, "proc/%s", masked[k]), mount("/dev/null", p, NULL, BIND, NULL);
	mount("tmpfs", "sys/firmware", "tmpfs", RDONLY, "size=0k");
	for (int k = 0; k < 5; k++) {
		snprintf(p, sizeof p, "proc/%s", protect[k]);
		if (mount(p, p, NULL, BIND | REC, NULL) < 0)
			continue; // not in this kernel
		CK(mount(NULL, p, NULL, BIND | REMOUNT | RDONLY | NOSUID | NODEV | NOEXEC, NULL));
	}
}

static void confine(void)
{
	const unsigned long long keep = 0xa80425fb; // the usual fourteen
	for (int c = 0; c < 41; c++)
		if (!(keep >> c & 1))
			prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{keep, keep, 0}, {0, 0, 0}};
	CK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CK(syscall(SYS_capset, &h, d));
	struct sock_filter f[400] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
	for (int k = 1; k < 399; k++)
		f[k] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 100000 + k, 0, 0);
	f[399] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog p = {400, f};
	CK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p));
}

static void child(const char *root, int gate, int userns)
{
	char c;
	if (read(gate, &c, 1) != 1)
		_exit(1);
	setsid();
	if (userns)
		CK(setgroups(0, NULL)), CK(setresgid(0, 0, 0)), CK(setresuid(0, 0, 0));
	CK(mount(NULL, "/", NULL, REC | SLAVE, NULL));
	CK(mount(root, root, NULL, BIND, NULL));
	CK(chdir(root));
	kernel_fs();
	devices();
	CK(sethostname("floor", 5));
	CK(syscall(SYS_pivot_root, ".", "."));
	CK(umount2(".", DETACH));
	CK(chdir("/"));
	confine();
	char *argv[] = {"true", NULL}, *env[] = {"PATH=/bin", NULL};
	execve("/bin/true", argv, env);
	check(-1, "execve");
}

static void one(const char *root, const char *dir, int id, int userns)
{
	char p[256], merged[256], options[1024], pid_text[16], map[32] = "0 1879048192 65536";
	int gate[2];
	for (int k = 0; k < 3; k++) {
		snprintf(p, sizeof p, "/sys/fs/cgroup/%s/stead-floor-%d", controllers[k], id), CK(mkdir(p, 0755));
		snprintf(p, sizeof p, "/sys/fs/cgroup/%s/stead-floor-%d/%s", controllers[k], id, files[k]), put(p, values[k]);
	}
	if (!userns) {
		const char *const parts[] = {"", "/up", "/wk", "/root"};
		for (int k = 0; k < 4; k++)
			snprintf(merged, sizeof merged, "%s/%d%s", dir, id, parts[k]), CK(mkdir(merged, 0755));
		snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/%d/up,workdir=%s/%d/wk", root, dir, id, dir, id);
		CK(mount("overlay", merged, "overlay", 0, options));
		root = merged;
	}
	CK(pipe2(gate, O_CLOEXEC));
	struct clone_args a = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET | (userns ? CLONE_NEWUSER : 0), .exit_signal = SIGCHLD};
	pid_t pid = syscall(SYS_clone3, &a, sizeof a);
	check(pid, "clone3");
	if (pid == 0) {
		close(gate[1]);
		child(root, gate[0], userns);
	}
	if (userns) {
		snprintf(p, sizeof p, "/proc/%d/uid_map", pid), put(p, map);
		snprintf(p, sizeof p, "/proc/%d/gid_map", pid), put(p, map);
	}
	snprintf(pid_text, sizeof pid_text, "%d", pid);
	for (int k = 0; k < 3; k++)
		snprintf(p, sizeof p, "/sys/fs/cgroup/%s/stead-floor-%d/cgroup.procs", controllers[k], id), put(p, pid_text);
	CK(write(gate[1], "x", 1));
	close(gate[0]), close(gate[1]);
	int status;
	CK(waitpid(pid, &status, 0));
	if (status)
		fprintf(stderr, "floor: container %d: status %x\n", id, status);
	if (!userns)
		CK(umount2(merged, DETACH));
	for (int k = 0; k < 3; k++)
		snprintf(p, sizeof p, "/sys/fs/cgroup/%s/stead-floor-%d", controllers[k], id), CK(rmdir(p));
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: floor ROOT DIR N WORKERS [userns]\n");
		return 2;
	}
	int n = atoi(argv[3]), workers = atoi(argv[4]), base = getpid() * 10000, status, bad = 0;
	struct timespec from, to;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (int w = 0; w < workers; w++)
		if (!fork()) {
			for (int k = w; k < n; k += workers)
				one(argv[1], argv[2], base + k, argc > 5);
			_exit(0);
		}
	while (wait(&status) > 0)
		bad |= status;
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.3f\n", ((to.tv_sec - from.tv_sec) * 1e3 + (to.tv_nsec - from.tv_nsec) / 1e6) / n);
	return bad != 0;
}
