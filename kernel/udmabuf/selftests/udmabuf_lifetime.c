// SPDX-License-Identifier: GPL-2.0-only
/*
 * Descriptors: close-on-exec, fork, no room for another; and nothing leaks.
 * udmabuf_lifetime [ROUNDS]
 * udmabuf_lifetime --after-exec FD: what it runs itself.
 */
#include "common.h"

static void close_on_exec(int device)
{
	int fd = memfd(page), buf;
	struct udmabuf_create request = { .memfd = fd, .size = page };

	buf = accepted(ioctl(device, UDMABUF_CREATE, &request), "no flags");
	check(!(fcntl(buf, F_GETFD) & FD_CLOEXEC), "stays open at exec");
	close(buf);
	request.flags = UDMABUF_FLAGS_CLOEXEC;
	buf = accepted(ioctl(device, UDMABUF_CREATE, &request), "UDMABUF_FLAGS_CLOEXEC");
	check(fcntl(buf, F_GETFD) & FD_CLOEXEC, "is closed at exec");
	close(buf);
	request.flags = 0xfffffffe;
	buf = accepted(ioctl(device, UDMABUF_CREATE, &request), "flags without a meaning");
	check(!(fcntl(buf, F_GETFD) & FD_CLOEXEC), "mean nothing");
	close(buf);
	check(nothing_held(fd), "no page is held");
	close(fd);
}

/* What a new program sees of it: 1 if the descriptor is closed, 0 if it is the dma-buf. */
static int after_exec(int fd)
{
	if (fcntl(fd, F_GETFD) < 0)
		return errno == EBADF ? 1 : 2;
	return lseek(fd, 0, SEEK_END) == (off_t)(3 * page) ? 0 : 2;
}

static void exec_with(int device, uint32_t flags, int wanted, const char *what)
{
	int fd = memfd(3 * page), status = -1;
	struct udmabuf_create request = { .memfd = fd, .flags = flags, .size = 3 * page };
	int buf = ioctl(device, UDMABUF_CREATE, &request);
	char number[16];
	pid_t pid;

	snprintf(number, sizeof(number), "%d", buf);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execl("/proc/self/exe", "udmabuf_lifetime", "--after-exec", number, NULL);
		_exit(3);
	}
	check(buf >= 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	      WEXITSTATUS(status) == wanted, "%s", what);
	close(buf);
	check(nothing_held(fd), "no page is held");
	close(fd);
}

static void outlives_everything(int device)
{
	int fd = memfd(2 * page), other = dup(device), buf, status;
	char *view;
	pid_t pid;

	number_pages(fd, 2, 1);
	buf = create(other, fd, 0, 2 * page);
	close(other);
	close(fd);
	view = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, buf, 0);
	check(page_is_number(view, 1, 2), "outlives the memfd's and the device's descriptors");
	pid = fork();
	if (!pid)
		_exit(page_is_number(view, 0, 1) && fcntl(buf, F_GETFD) >= 0 ? 0 : 1);
	check(waitpid(pid, &status, 0) == pid && status == 0, "is inherited at fork");
	close(buf);
	check(page_is_number(view, 0, 1), "a mapping outlives the dma-buf's descriptor");
	munmap(view, 2 * page);
}

static void held_by_a_child(int device)
{
	int fd = memfd(page), buf = create(device, fd, 0, page), go[2], status;
	pid_t pid;
	char byte;

	if (pipe(go))
		bail("pipe");
	pid = fork();
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &byte, 1) == 0 ? 0 : 1);
	}
	close(go[0]);
	close(buf);
	refused(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY, "still held by a child");
	close(go[1]);
	waitpid(pid, &status, 0);
	check(nothing_held(fd), "gone with the child");
	close(fd);
}

/* Past fault of other drivers: with no room for a descriptor, the dma-buf was leaked. */
static void no_room(int device)
{
	int fd = memfd(64 * page);
	struct rlimit before, none;
	unsigned int wrong = 0;

	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = dup(fd);
	close(none.rlim_cur);
	setrlimit(RLIMIT_NOFILE, &none);
	for (int i = 0; i < 1000; i++) {
		int buf = create(device, fd, 0, 64 * page);

		wrong += buf >= 0 || errno != EMFILE;
	}
	refused(create(device, -1, 0, page), EBADFD, "no room, and no memfd either");
	setrlimit(RLIMIT_NOFILE, &before);
	check(!wrong, "no room for a descriptor: EMFILE, a thousand times");
	check(nothing_held(fd), "no page is held");
	close(fd);
}

/* An item fails when pages of those before it are held already. */
static void half_made(int device)
{
	int good = memfd(64 * page), bad = memfd(page), reached = 0;
	struct udmabuf_create_item items[2] = {
		{ .memfd = good, .size = 64 * page },
		{ .memfd = bad, .offset = page, .size = page },
	};

	for (int i = 0; i < 1000; i++)
		reached += create_list(device, items, 2) >= 0;
	check(!reached && nothing_held(good), "lists that fail half-way hold nothing");
	close(good);
	close(bad);
}

static void many(int device, unsigned int rounds)
{
	static const char *const keys[] = { "SUnreclaim", "Shmem", "Mlocked", "VmallocUsed" };
	long before[4], after[4];
	int fd = memfd(256 * page), failed = 0;
	long most = 0;

	number_pages(fd, 256, 0);
	for (unsigned int i = 0; i < rounds + 1000; i++) {
		int buf = create(device, fd, i % 128 * page, (1 + i % 128) * page);

		failed += buf < 0;
		close(buf);
		if (i == 999)	/* caches are warm */
			for (int k = 0; k < 4; k++)
				before[k] = proc_value("/proc/meminfo", keys[k]);
	}
	for (int k = 0; k < 4; k++) {
		after[k] = proc_value("/proc/meminfo", keys[k]);
		printf("# %s: %ld kB, then %ld kB\n", keys[k], before[k], after[k]);
		if (after[k] - before[k] > most)
			most = after[k] - before[k];
	}
	check(!failed, "made and closed %u of up to 128 pages", rounds);
	no_leak(most, rounds);
	check(nothing_held(fd), "no page is held");
	close(fd);
}

int main(int argc, char **argv)
{
	int device;

	if (argc > 2 && !strcmp(argv[1], "--after-exec")) {
		page = sysconf(_SC_PAGESIZE);
		return after_exec(atoi(argv[2]));
	}
	device = open_udmabuf();
	close_on_exec(device);
	exec_with(device, UDMABUF_FLAGS_CLOEXEC, 1, "with it, a new program has none");
	exec_with(device, 0, 0, "without it, a new program has the dma-buf");
	outlives_everything(device);
	held_by_a_child(device);
	no_room(device);
	half_made(device);
	many(device, leak_rounds(argc > 1 ? atoi(argv[1]) : 100000));
	return finish();
}
