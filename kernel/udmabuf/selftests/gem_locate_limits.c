// SPDX-License-Identifier: GPL-2.0-only
/* How much one may locate at once: per open file, and by RLIMIT_MEMLOCK. Needs root. */
#include "located.h"

static bool set(const char *name, const char *value)
{
	return write_file(parameter_path("gem_locate", name), value);
}

static void per_open_file(int device, int fd)
{
	const char *path = getenv("GEM_LOCATE_DEVICE");
	int second = open(path ? path : "/dev/gem-locate", O_RDWR | O_CLOEXEC), held[3];

	if (!set("max_objects", "2")) {
		skip("the limits cannot be written");
		return;
	}
	held[0] = locate_memfd(device, fd, 0, page);
	held[1] = locate_memfd(device, fd, 0, page);
	refused(locate_memfd(device, fd, 0, page), EDQUOT, "a third object of two");
	held[2] = accepted(locate_memfd(second, fd, 0, page), "through another open file");
	close(held[2]);
	close(held[0]);
	held[0] = accepted(locate_memfd(device, fd, 0, page), "in place of one that was closed");
	close(held[0]);
	close(held[1]);
	set("max_objects", "4096");

	set("max_mb", "1");
	held[0] = accepted(locate_memfd(device, fd, 0, 1 << 20), "1 of 1 MiB");
	refused(locate_memfd(device, fd, 0, page), EDQUOT, "a page more");
	close(held[0]);
	refused(locate_memfd(device, fd, 0, (1 << 20) + page), EDQUOT, "a page more at once");
	close(accepted(locate_memfd(device, fd, page, 1 << 20), "1 MiB again"));
	set("max_mb", "0");
	refused(locate_memfd(device, fd, 0, page), EDQUOT, "a page, when none are allowed");
	set("max_mb", "4096");
	close(second);
}

/* As another user and without capabilities, since root is not limited. */
static int by_rlimit_child(int device, int fd)
{
	struct rlimit limit = { 1 << 20, 1 << 20 };
	long before, during;
	int held;

	setrlimit(RLIMIT_MEMLOCK, &limit);
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		bail("setresuid");
	before = proc_value("/proc/self/status", "VmLck");
	held = accepted(locate_memfd(device, fd, 0, 1 << 20), "as nobody: 1 of 1 MiB");
	during = proc_value("/proc/self/status", "VmLck");
	check(during - before == 1024, "shows as locked memory (%ld kB)", during - before);
	refused(locate_memfd(device, fd, 0, page), ENOMEM, "as nobody: a page more");
	close(held);
	check(proc_value("/proc/self/status", "VmLck") == before, "closed: not locked any more");
	close(accepted(locate_memfd(device, fd, 0, 1 << 20), "as nobody: 1 MiB again"));
	/* And with something held, to see that exit is fine. */
	locate_memfd(device, fd, 0, 1 << 20);
	fflush(stdout);
	return failures ? 100 : checks;
}

static void by_rlimit(int device, int fd)
{
	pid_t pid;
	int status;

	if (geteuid()) {
		skip("not root: cannot become somebody else");
		return;
	}
	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(by_rlimit_child(device, fd));
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) < 100)
		checks = WEXITSTATUS(status);
	else
		failures++;
}

/* A descriptor is closed by another process than the one that was charged. */
static void closed_elsewhere(int device, int fd)
{
	long before = proc_value("/proc/self/status", "VmLck");
	int held = locate_memfd(device, fd, 0, 1 << 20), go[2], status;
	char byte;
	pid_t pid;

	if (pipe(go))
		bail("pipe");
	pid = fork();
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &byte, 1) != 0);
	}
	close(held);
	check(proc_value("/proc/self/status", "VmLck") - before == 1024, "a child holds it still");
	close(go[1]);
	close(go[0]);
	waitpid(pid, &status, 0);
	check(proc_value("/proc/self/status", "VmLck") == before, "uncharged at the child's end");

	/* The other way round: charged to a child that is no more. */
	pid = fork();
	if (!pid) {
		held = locate_memfd(device, fd, 0, page);
		_exit(held < 0);
	}
	waitpid(pid, &status, 0);
	check(WEXITSTATUS(status) == 0, "a process ends with something located");
}

static void many(int device, int fd, unsigned int rounds)
{
	long before = 0, after;
	unsigned int failed = 0;

	for (unsigned int i = 0; i < rounds + 1000; i++) {
		int held = locate_memfd(device, fd, i % 64 * page, (1 + i % 64) * page);

		failed += held < 0;
		close(held);
		if (i == 999)	/* caches are warm */
			before = proc_value("/proc/meminfo", "SUnreclaim");
	}
	after = proc_value("/proc/meminfo", "SUnreclaim");
	printf("# SUnreclaim: %ld kB, then %ld kB\n", before, after);
	check(!failed, "located and closed %u times", rounds);
	no_leak(after - before, rounds);
}

static void no_room(int device, int fd)
{
	struct rlimit before, none;
	unsigned int wrong = 0;

	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = dup(fd);
	close(none.rlim_cur);
	setrlimit(RLIMIT_NOFILE, &none);
	for (int i = 0; i < 1000; i++)
		wrong += locate_memfd(device, fd, 0, page) >= 0 || errno != EMFILE;
	setrlimit(RLIMIT_NOFILE, &before);
	check(!wrong, "no room for a descriptor: EMFILE, a thousand times");
}

int main(int argc, char **argv)
{
	int device = open_gem_locate(), fd = memfd(2 << 20);

	per_open_file(device, fd);
	by_rlimit(device, fd);
	closed_elsewhere(device, fd);
	no_room(device, fd);
	many(device, fd, leak_rounds(argc > 1 ? atoi(argv[1]) : 20000));
	check(nothing_held(fd), "no page is held after all that");
	return finish();
}
