// floor.c - the physical limit that container start-up is measured against: the
// kernel work that a fully isolated container needs, in plain C, one process a
// worker, with no record, no log and no supervision.
//
//   floor ROOT DIR N WORKERS [userns]
//
// For each container: a v1 cgroup with limits in memory, cpu and pids; all
// namespaces; proc, sysfs, a /dev of its own; masked and read-only paths;
// pivot_root; capabilities, no_new_privs, a seccomp filter of a default profile's
// size; execve of ROOT's /bin/true; and all of it removed. The root is an overlay
// in DIR. With `userns` it is ROOT itself, with ids mapped, and its root can undo
// no mask: the parent puts the tree together in a namespace of its own, and the
// copy that the child takes of it is locked (mount_namespaces(7)).
// Prints milliseconds per container.
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

static void execute(void)
{
	char *argv[] = {"true", NULL}, *env[] = {"PATH=/bin", NULL};
	CK(sethostname("floor", 5));
	CK(syscall(SYS_pivot_root, ".", "."));
	CK(umount2(".", DETACH));
	CK(chdir("/"));
	confine();
	execve("/bin/true", argv, env);
	check(-1, "execve");
}

static void hear(int gate)
{
	char c;
	if (read(gate, &c, 1) != 1)
		_exit(1);
}

static void child(const char *root, int gate)
{
	hear(gate);
	setsid();
	CK(mount(NULL, "/", NULL, REC | SLAVE, NULL));
	CK(mount(root, root, NULL, BIND, NULL));
	CK(chdir(root));
	kernel_fs();
	devices();
	execute();
}

// With a user namespace.

static int host, nursery; // mount namespaces

static int tree(int dir, const char *path, unsigned set, int userns)
{
	int f = syscall(SYS_open_tree, dir, path, OPEN_TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH);
	check(f, path);
	struct mount_attr a = {.attr_set = set | (userns ? MOUNT_ATTR_IDMAP : 0), .propagation = PRIVATE, .userns_fd = userns};
	CK(syscall(SYS_mount_setattr, f, "", AT_EMPTY_PATH, &a, sizeof a));
	return f;
}

static int fresh(const char *type, unsigned set)
{
	int f = syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
	check(f, type);
	CK(syscall(SYS_fsconfig, f, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	int m = syscall(SYS_fsmount, f, FSMOUNT_CLOEXEC, set);
	check(m, type);
	close(f);
	return m;
}

static void attach(int mnt, const char *path)
{
	check(syscall(SYS_move_mount, mnt, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH), path);
	close(mnt);
}

// The nursery has what trees are made of: an unmasked proc and sysfs, without which
// the kernel grants a user namespace none, an empty directory, the host's devices.
static void make_nursery(const char *dir)
{
	char p[64];
	int node[6];
	CK(host = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
	CK(unshare(CLONE_NEWNS));
	CK(mount(NULL, "/", NULL, REC | PRIVATE, NULL));
	for (int k = 0; k < 6; k++)
		snprintf(p, sizeof p, "/dev/%s", nodes[k]), node[k] = tree(AT_FDCWD, p, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0);
	CK(mount("tmpfs", dir, "tmpfs", NOSUID | NODEV, "mode=755"));
	CK(chdir(dir));
	CK(syscall(SYS_pivot_root, ".", "."));
	CK(umount2(".", DETACH));
	CK(chdir("/"));
	mkdir("proc", 0755), mkdir("sys", 0755), mkdir("dev", 0755), mkdir("empty", 0555);
	CK(mount("proc", "proc", "proc", NOSUID | NODEV | NOEXEC, NULL));
	CK(mount("sysfs", "sys", "sysfs", NOSUID | NODEV | NOEXEC, NULL));
	for (int k = 0; k < 6; k++) {
		snprintf(p, sizeof p, "/dev/%s", nodes[k]);
		close(open(p, O_CREAT | O_WRONLY, 0666));
		attach(node[k], p);
	}
	CK(nursery = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
	CK(setns(host, CLONE_NEWNS));
}

static int kernel[2]; // proc and sysfs, of the child's namespaces

static int make_kernel_fs(void *unused)
{
	kernel[0] = fresh("proc", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	kernel[1] = fresh("sysfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY);
	return 0;
}

static void mapped_child(const char *root, int gate)
{
	static char stack[16384] __attribute__((aligned(16)));
	int status;
	hear(gate);
	setsid();
	CK(setgroups(0, NULL)), CK(setresgid(0, 0, 0)), CK(setresuid(0, 0, 0));
	pid_t helper = clone(make_kernel_fs, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_NEWNS | SIGCHLD, NULL);
	check(helper, "clone");
	CK(waitpid(helper, &status, 0));
	char bytes[sizeof kernel + CMSG_SPACE(sizeof kernel)] = {0};
	struct iovec part = {bytes, 1};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = bytes + sizeof kernel, .msg_controllen = CMSG_SPACE(sizeof kernel)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof kernel);
	memcpy(CMSG_DATA(h), kernel, sizeof kernel);
	CK(sendmsg(gate, &m, 0));
	hear(gate);
	CK(unshare(CLONE_NEWNS)); // the locked copy
	CK(write(gate, "u", 1));
	int top = syscall(SYS_open_tree, AT_FDCWD, root, OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE); // a locked mount can't be pivoted to
	check(top, root);
	CK(syscall(SYS_move_mount, top, "", AT_FDCWD, root, MOVE_MOUNT_F_EMPTY_PATH));
	CK(fchdir(top));
	devices();
	CK(unshare(CLONE_NEWCGROUP));
	execute();
}

// raise_tree puts the tree of a child together.
static void raise_tree(const char *from, const char *root, int gate, pid_t pid)
{
	char p[256], bytes[sizeof kernel + CMSG_SPACE(sizeof kernel)];
	snprintf(p, sizeof p, "/proc/%d/ns/user", pid);
	int user = open(p, O_RDONLY | O_CLOEXEC);
	check(user, p);
	CK(write(gate, "m", 1));
	CK(setns(host, CLONE_NEWNS));
	int top = tree(AT_FDCWD, from, MOUNT_ATTR_NODEV, user);
	CK(setns(nursery, CLONE_NEWNS));
	close(user);
	attach(top, root);
	struct iovec part = {bytes, 1};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = bytes + sizeof kernel, .msg_controllen = CMSG_SPACE(sizeof kernel)};
	if (recvmsg(gate, &m, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&m))
		check(-1, "proc and sysfs of the child");
	memcpy(kernel, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof kernel);
	snprintf(p, sizeof p, "%s/proc", root), attach(kernel[0], p);
	snprintf(p, sizeof p, "%s/sys", root), attach(kernel[1], p);
	for (int k = 0; k < 5; k++) {
		snprintf(p, sizeof p, "%s/proc/%s", root, masked[k]);
		if (access(p, F_OK) == 0)
			attach(tree(AT_FDCWD, "/dev/null", 0, 0), p);
		snprintf(p, sizeof p, "%s/proc/%s", root, protect[k]);
		if (access(p, F_OK) == 0)
			attach(tree(AT_FDCWD, p, MOUNT_ATTR_RDONLY, 0), p);
	}
	snprintf(p, sizeof p, "%s/sys/firmware", root);
	attach(tree(AT_FDCWD, "/empty", MOUNT_ATTR_RDONLY, 0), p);
}

static pid_t start_mapped(const char *from, int id, int gate[2])
{
	char root[32], p[64];
	const char *map = "0 1879048192 65536";
	snprintf(root, sizeof root, "/%d", id);
	CK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, gate));
	CK(setns(nursery, CLONE_NEWNS));
	CK(mkdir(root, 0755));
	struct clone_args a = {.flags = CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUSER, .exit_signal = SIGCHLD};
	pid_t pid = syscall(SYS_clone3, &a, sizeof a);
	check(pid, "clone3");
	if (pid == 0) {
		close(gate[1]);
		mapped_child(root, gate[0]);
	}
	close(gate[0]), gate[0] = -1; // else its end would never be read
	snprintf(p, sizeof p, "/proc/%d/uid_map", pid), put(p, map);
	snprintf(p, sizeof p, "/proc/%d/gid_map", pid), put(p, map);
	raise_tree(from, root, gate[1], pid);
	return pid;
}

static void one(const char *root, const char *dir, int id, int userns)
{
	char p[256], merged[256], options[1024], pid_text[16];
	int gate[2];
	pid_t pid;
	for (int k = 0; k < 3; k++) {
		snprintf(p, sizeof p, "/sys/fs/cgroup/%s/stead-floor-%d", controllers[k], id), CK(mkdir(p, 0755));
		snprintf(p, sizeof p, "/sys/fs/cgroup/%s/stead-floor-%d/%s", controllers[k], id, files[k]), put(p, values[k]);
	}
	if (userns) {
		pid = start_mapped(root, id, gate);
		CK(setns(host, CLONE_NEWNS));
	} else {
		const char *const parts[] = {"", "/up", "/wk", "/root"};
		for (int k = 0; k < 4; k++)
			snprintf(merged, sizeof merged, "%s/%d%s", dir, id, parts[k]), CK(mkdir(merged, 0755));
		snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/%d/up,workdir=%s/%d/wk", root, dir, id, dir, id);
		CK(mount("overlay", merged, "overlay", 0, options));
		CK(pipe2(gate, O_CLOEXEC));
		struct clone_args a = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | CLONE_NEWNET, .exit_signal = SIGCHLD};
		pid = syscall(SYS_clone3, &a, sizeof a);
		check(pid, "clone3");
		if (pid == 0) {
			close(gate[1]);
			child(merged, gate[0]);
		}
		close(gate[0]);
	}
	snprintf(pid_text, sizeof pid_text, "%d", pid);
	for (int k = 0; k < 3; k++)
		snprintf(p, sizeof p, "/sys/fs/cgroup/%s/stead-floor-%d/cgroup.procs", controllers[k], id), put(p, pid_text);
	CK(write(gate[1], "x", 1));
	if (userns) {
		hear(gate[1]); // it has its copy
		CK(setns(nursery, CLONE_NEWNS));
		snprintf(p, sizeof p, "/%d", id), CK(umount2(p, DETACH));
		if (read(gate[1], p + 64, 1) != 0) // it was executed; a directory removed before would take its mount along
			check(-1, "wait for execve");
		CK(rmdir(p));
		CK(setns(host, CLONE_NEWNS));
	}
	close(gate[1]);
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
	if (argc > 5)
		make_nursery(argv[2]);
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
