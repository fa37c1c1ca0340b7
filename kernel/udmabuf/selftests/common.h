/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the test programs share: TAP output, and short names for what they do all the time.
 * Every program is one translation unit; this is included once in each.
 */
#ifndef WLPROXY_SELFTESTS_COMMON_H
#define WLPROXY_SELFTESTS_COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/udmabuf.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#define HUGE (2UL << 20)
#define UNUSED __attribute__((unused))
#define PRINTF(n) __attribute__((unused, format(printf, n, n + 1)))

static size_t page;
static unsigned int checks, failures;

static PRINTF(2) bool check(bool ok, const char *format, ...)
{
	const int error = errno;
	va_list rest;

	failures += !ok;
	printf("%sok %u - ", ok ? "" : "not ", ++checks);
	va_start(rest, format);
	vprintf(format, rest);
	va_end(rest);
	printf("\n");
	if (!ok)
		printf("# errno was %d (%s)\n", error, strerror(error));
	fflush(stdout);
	return ok;
}

static PRINTF(1) void skip(const char *format, ...)
{
	va_list rest;

	printf("ok %u # SKIP ", ++checks);
	va_start(rest, format);
	vprintf(format, rest);
	va_end(rest);
	printf("\n");
}

static PRINTF(1) __attribute__((noreturn)) void bail(const char *format, ...)
{
	const int error = errno;
	va_list rest;

	printf("Bail out! ");
	va_start(rest, format);
	vprintf(format, rest);
	va_end(rest);
	printf(": %s\n", strerror(error));
	exit(1);
}

/* Closes the descriptor if there is one after all. */
static UNUSED void refused(int fd, int wanted, const char *what)
{
	const int error = fd < 0 ? errno : 0;

	check(error == wanted, "%s: %s", what, strerrorname_np(wanted));
	if (error != wanted)
		printf("# got %s\n", error ? strerrorname_np(error) : "a descriptor");
	if (fd >= 0)
		close(fd);
}

static UNUSED int accepted(int fd, const char *what)
{
	check(fd >= 0, "%s: accepted", what);
	return fd;
}

static UNUSED int finish(void)
{
	printf("1..%u\n", checks);
	return failures ? 1 : 0;
}

/* The whole program is skipped if there is no such device. */
static UNUSED int open_device(const char *variable, const char *fallback)
{
	const char *path = getenv(variable);
	int fd = open(path ? path : fallback, O_RDWR | O_CLOEXEC);

	page = sysconf(_SC_PAGESIZE);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n");
	if (fd < 0) {
		printf("1..0 # SKIP %s: %s\n", path ? path : fallback, strerror(errno));
		exit(4);
	}
	return fd;
}

static UNUSED int open_udmabuf(void)
{
	return open_device("UDMABUF_DEVICE", "/dev/udmabuf");
}

static UNUSED int open_gem_locate(void)
{
	return open_device("GEM_LOCATE_DEVICE", "/dev/gem-locate");
}

/* Whether it is the driver that is part of Linux. */
static UNUSED bool in_tree(void)
{
	const char *name = getenv("UDMABUF_MODULE");

	if (name)
		return !strcmp(name, "udmabuf");
	return access("/sys/module/udmabuf_compat", F_OK) != 0;
}

static UNUSED int memfd_with(off_t size, unsigned int flags, int seals)
{
	int fd = memfd_create("selftest", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	if (fd < 0)
		return -1;
	if (ftruncate(fd, size) || (seals && fcntl(fd, F_ADD_SEALS, seals)))
		bail("memfd");
	return fd;
}

/* One that is suitable. */
static UNUSED int memfd(off_t size)
{
	int fd = memfd_with(size, 0, F_SEAL_SHRINK);

	if (fd < 0)
		bail("memfd_create");
	return fd;
}

static UNUSED int create(int device, int fd, uint64_t offset, uint64_t size)
{
	struct udmabuf_create request = {
		.memfd = fd, .flags = UDMABUF_FLAGS_CLOEXEC, .offset = offset, .size = size,
	};

	return ioctl(device, UDMABUF_CREATE, &request);
}

static UNUSED int create_list(int device, const struct udmabuf_create_item *items,
			      unsigned int count)
{
	struct udmabuf_create_list *list = calloc(1, sizeof(*list) + count * sizeof(*items));
	int fd, error;

	list->flags = UDMABUF_FLAGS_CLOEXEC;
	list->count = count;
	memcpy(list->list, items, count * sizeof(*items));
	fd = ioctl(device, UDMABUF_CREATE_LIST, list);
	error = errno;
	free(list);
	errno = error;
	return fd;
}

/* Each page begins with its number (from @first) and ends with the same. */
static UNUSED void number_pages(int fd, size_t pages, uint64_t first)
{
	uint64_t *at = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	const size_t words = page / sizeof(*at);

	if (at == MAP_FAILED)
		bail("mmap of a memfd");
	for (size_t i = 0; i < pages; i++)
		at[i * words] = at[i * words + words - 1] = first + i;
	munmap(at, pages * page);
}

static UNUSED bool page_is_number(const void *address, size_t index, uint64_t number)
{
	const uint64_t *at = (const void *)((const char *)address + index * page);

	return at[0] == number && at[page / sizeof(*at) - 1] == number;
}

/*
 * F_SEAL_WRITE can be added only if nobody holds a reference to a page: so this shows
 * whether something was leaked. It waits for references to go away, for about 0.1 s.
 */
static UNUSED bool nothing_held(int fd)
{
	return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0;
}

static UNUSED bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n, error;

	if (fd < 0)
		return false;
	n = write(fd, text, strlen(text));
	error = errno;
	close(fd);
	errno = error;
	return n == (ssize_t)strlen(text);
}

static UNUSED bool read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	return n > 0;
}

static UNUSED const char *parameter_path(const char *module, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, name);
	return path;
}

static UNUSED const char *udmabuf_module(void)
{
	const char *name = getenv("UDMABUF_MODULE");

	return name ? name : in_tree() ? "udmabuf" : "udmabuf_compat";
}

/* Of a line like "MemFree: 123 kB" in a file of /proc. */
static UNUSED long proc_value(const char *path, const char *key)
{
	char line[256];
	long value = -1;
	FILE *file = fopen(path, "re");

	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':')
			value = atol(line + strlen(key) + 1);
	if (file)
		fclose(file);
	return value;
}

/* Where it is, so is KASAN (debug.config), which keeps what is freed for a while. */
static UNUSED bool has_kmemleak(void)
{
	return access("/sys/kernel/debug/kmemleak", F_OK) == 0;
}

/*
 * How often to do what may leak. Less often than this, and what others take meanwhile
 * would hide a leak.
 */
static UNUSED unsigned int leak_rounds(unsigned int wanted)
{
	return wanted < 20000 && !has_kmemleak() ? 20000 : wanted;
}

/* @grown: by how many kB memory has, in that many rounds. */
static UNUSED void no_leak(long grown, unsigned int rounds)
{
	if (has_kmemleak())
		skip("memory in use: kmemleak looks for leaks");
	else
		check(grown * 1024 < 32L * rounds, "memory is as it was, to 32 bytes a round");
}

static sigjmp_buf faulted;

static UNUSED void on_fault(int number)
{
	siglongjmp(faulted, number);
}

/* The signal that reading there raises, or 0. */
static UNUSED int signal_of_read(const volatile void *address)
{
	struct sigaction action = { .sa_handler = on_fault }, bus, segv;
	int number;

	sigaction(SIGBUS, &action, &bus);
	sigaction(SIGSEGV, &action, &segv);
	number = sigsetjmp(faulted, 1);
	if (!number)
		(void)*(const volatile char *)address;
	sigaction(SIGBUS, &bus, NULL);
	sigaction(SIGSEGV, &segv, NULL);
	return number;
}

#endif /* WLPROXY_SELFTESTS_COMMON_H */
