// SPDX-License-Identifier: GPL-2.0-only
/* dma-bufs of memfds with huge pages: of hugetlbfs, and transparent ones. */
#include "located.h"

#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

static int locator = -1;

static struct udmabuf_create_item part(int fd, size_t first, size_t pages)
{
	return (struct udmabuf_create_item){
		.memfd = fd, .offset = first * page, .size = pages * page,
	};
}

/* What a device is told of the dma-buf: its pages are those of the memfd, mapped at @map. */
static void same_for_devices(int buf, const struct udmabuf_create_item *items,
			     unsigned int count, char *map)
{
	size_t n = 0, wrong = 0;
	struct located it;

	if (locator < 0 || !address_by_pagemap(map)) {
		skip("no /dev/gem-locate, or no right to read /proc/self/pagemap");
		return;
	}
	if (!check(read_extents(&it, locate_dmabuf(locator, buf)), "is located"))
		return;
	for (unsigned int i = 0; i < count; i++)
		for (uint64_t at = 0; at < items[i].size; at += page)
			wrong += address_by_pagemap(map + items[i].offset + at) !=
				 address_of_page(&it, n++);
	check(!wrong && it.bytes == n * page && well_formed(&it),
	      "where /proc/self/pagemap says: %zu pages in %u extents, %zu wrong", n, it.count,
	      wrong);
	forget(&it);
}

/* Of a memfd that is mapped at @map, and whose pages are numbered from @number on. */
static void made_of(int device, const struct udmabuf_create_item *items, unsigned int count,
		    char *map, uint64_t number, const char *what)
{
	int buf = accepted(create_list(device, items, count), what);
	size_t n = 0, wrong = 0, size = 0;
	char *view;

	for (unsigned int i = 0; i < count; i++)
		size += items[i].size;
	view = mmap(NULL, size, PROT_READ, MAP_SHARED, buf, 0);
	if (!check(view != MAP_FAILED, "mapped"))
		return;
	for (unsigned int i = 0; i < count; i++)
		for (uint64_t at = 0; at < items[i].size; at += page)
			wrong += !page_is_number(view, n++,
						 number + (items[i].offset + at) / page);
	check(!wrong, "all its pages, in order: %zu of %zu are wrong", wrong, n);
	munmap(view, size);
	same_for_devices(buf, items, count, map);
	close(buf);
}

static void hugetlb(int device)
{
	const size_t pages = 2 * HUGE / page, border = HUGE / page;
	int fd = memfd_with(2 * HUGE, MFD_HUGETLB, F_SEAL_SHRINK);
	struct udmabuf_create_item items[5];
	char *map;

	if (fd < 0) {
		skip("no memfds of huge pages");
		return;
	}
	number_pages(fd, pages, 5000);
	map = mmap(NULL, 2 * HUGE, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		bail("mmap of huge pages");
	items[0] = part(fd, 0, pages);
	made_of(device, items, 1, map, 5000, "two huge pages");
	items[0] = part(fd, border - 3, 6);
	made_of(device, items, 1, map, 5000, "across the border of two");
	for (int i = 0; i < 3; i++)
		items[i] = part(fd, 7 + 100 * i, 1 + i);
	made_of(device, items, 3, map, 5000, "several parts of one huge page");
	items[0] = part(fd, pages - 1, 1);
	items[1] = part(fd, border - 5, 9);
	items[2] = part(fd, 3, 4);
	items[3] = part(fd, border, border);
	items[4] = part(fd, 3, 4);
	made_of(device, items, 5, map, 5000, "parts of both, one of them twice");
	refused(create(device, fd, 2 * HUGE, page), EINVAL, "behind the last huge page");
	munmap(map, 2 * HUGE);
	check(nothing_held(fd), "closed: no huge page is held");
	close(fd);

	fd = memfd_with(HUGE, MFD_HUGETLB, 0);
	refused(create(device, fd, 0, HUGE), EINVAL, "huge pages without seals");
	close(fd);
}

static int reopened(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

/*
 * Huge pages that do not exist yet. Nobody has reserved them; who takes one as if it were
 * reserved lets the count of those wrap; a kernel with CONFIG_DEBUG_VM stops instead.
 */
static void untouched(int device)
{
	int fd = memfd_with(2 * HUGE, MFD_HUGETLB, F_SEAL_SHRINK), other, buf;

	if (in_tree()) {
		skip("huge pages never touched: by its code, 6.12 miscounts them");
		close(fd);
		return;
	}
	other = reopened(fd, O_RDONLY);
	refused(create(device, other, 0, HUGE), EACCES, "huge pages, read-only");
	if (locator >= 0)
		refused(locate_memfd(locator, other, 0, HUGE), ENOMEM,
			"located: a huge page never touched, read-only");
	buf = accepted(create(device, fd, page, page), "a huge page that was never touched");
	close(buf);
	/* Now the first exists, and the second does not. */
	if (locator >= 0) {
		close(accepted(locate_memfd(locator, other, 0, HUGE),
			       "located: it is there, for a read-only one as well"));
		refused(locate_memfd(locator, other, HUGE - page, 2 * page), ENOMEM,
			"located: half of it is not");
	}
	close(other);
	fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HUGE);
	buf = accepted(create(device, fd, HUGE - page, 2 * page), "from both, after a hole");
	close(buf);
	close(fd);
	fd = memfd_with(64 * HUGE, MFD_HUGETLB, F_SEAL_SHRINK);
	/* The size alone is within the limit; there are not so many huge pages. */
	refused(create(device, fd, 0, 32 * HUGE), ENOMEM, "more huge pages than there are");
	close(fd);
	check(proc_value("/proc/meminfo", "HugePages_Free") ==
	      proc_value("/proc/meminfo", "HugePages_Total"), "all huge pages are free again");
	check(proc_value("/proc/meminfo", "HugePages_Rsvd") == 0, "none is reserved");
}

static void transparent(int device)
{
	const size_t pages = 4 * HUGE / page;
	int fd = memfd(4 * HUGE), buf;
	const struct udmabuf_create_item item = part(fd, 1, pages - 2);
	char *map = mmap(NULL, 6 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *aligned = (char *)(((uintptr_t)map + HUGE - 1) & ~(HUGE - 1));
	bool ok = true, huge;
	char *view;

	number_pages(fd, pages, 9000);
	if (mmap(aligned, 4 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	    MAP_FAILED)
		bail("mmap");
	huge = !madvise(aligned, 4 * HUGE, 25 /* MADV_COLLAPSE */);
	printf("# transparent huge pages: %s\n", huge ? "yes" : strerror(errno));
	buf = accepted(create(device, fd, page, 4 * HUGE - 2 * page), "all but the first and last");
	view = mmap(NULL, 4 * HUGE - 2 * page, PROT_READ, MAP_SHARED, buf, 0);
	for (size_t i = 0; i < pages - 2; i++)
		ok &= page_is_number(view, i, 9001 + i);
	check(ok, "each page of %s is in its place", huge ? "huge ones" : "small ones");
	same_for_devices(buf, &item, 1, aligned);
	/* Splits and collapses must not move what the dma-buf has. */
	fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, page);
	madvise(aligned, 4 * HUGE, 25);
	ok = true;
	for (size_t i = 0; i < pages - 2; i++)
		ok &= page_is_number(view, i, 9001 + i);
	check(ok, "and still after a hole and another collapse");
	munmap(view, 4 * HUGE - 2 * page);
	close(buf);
	munmap(map, 6 * HUGE);
	check(nothing_held(fd), "closed: no page is held");
	close(fd);
}

int main(void)
{
	int device = open_udmabuf();
	const char *path = getenv("GEM_LOCATE_DEVICE");
	char before[64] = "", *word;

	locator = open(path ? path : "/dev/gem-locate", O_RDWR | O_CLOEXEC);
	read_file(SHMEM_ENABLED, before, sizeof(before));
	/* Older kernels make huge pages of shmem only where this allows it. */
	write_file(SHMEM_ENABLED, "always");
	write_file("/proc/sys/vm/nr_hugepages", "4");
	if (proc_value("/proc/meminfo", "HugePages_Free") >= 4) {
		hugetlb(device);
		untouched(device);
	} else {
		skip("no huge pages to be had");
	}
	transparent(device);
	write_file("/proc/sys/vm/nr_hugepages", "0");
	/* The chosen one is in brackets. */
	word = strchr(before, '[');
	if (word)
		write_file(SHMEM_ENABLED, strtok(word, "[]"));
	return finish();
}
