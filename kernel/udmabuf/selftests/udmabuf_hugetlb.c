// SPDX-License-Identifier: GPL-2.0-only
/* dma-bufs of memfds with huge pages: of hugetlbfs, and transparent ones. */
#include "common.h"

#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

static void hugetlb(int device)
{
	const size_t pages = 2 * HUGE / page;
	int fd = memfd_with(2 * HUGE, MFD_HUGETLB, F_SEAL_SHRINK), buf;
	struct udmabuf_create_item items[3];
	char *view;

	if (fd < 0) {
		skip("no memfds of huge pages");
		return;
	}
	number_pages(fd, pages, 5000);
	buf = accepted(create(device, fd, 0, 2 * HUGE), "two huge pages");
	view = mmap(NULL, 2 * HUGE, PROT_READ, MAP_SHARED, buf, 0);
	check(view != MAP_FAILED && page_is_number(view, 0, 5000) &&
	      page_is_number(view, pages / 2 - 1, 5000 + pages / 2 - 1) &&
	      page_is_number(view, pages / 2, 5000 + pages / 2) &&
	      page_is_number(view, pages - 1, 5000 + pages - 1), "all of them, in order");
	munmap(view, 2 * HUGE);
	close(buf);

	buf = accepted(create(device, fd, HUGE - 3 * page, 6 * page), "across the border of two");
	view = mmap(NULL, 6 * page, PROT_READ, MAP_SHARED, buf, 0);
	check(view != MAP_FAILED && page_is_number(view, 0, 5000 + pages / 2 - 3) &&
	      page_is_number(view, 5, 5000 + pages / 2 + 2), "the right small pages of them");
	munmap(view, 6 * page);
	close(buf);

	for (int i = 0; i < 3; i++)
		items[i] = (struct udmabuf_create_item){
			.memfd = fd, .offset = (7 + 100 * i) * page, .size = (1 + i) * page,
		};
	buf = accepted(create_list(device, items, 3), "several parts of one huge page");
	view = mmap(NULL, 6 * page, PROT_READ, MAP_SHARED, buf, 0);
	check(view != MAP_FAILED && page_is_number(view, 0, 5007) &&
	      page_is_number(view, 2, 5108) && page_is_number(view, 5, 5209), "and those");
	munmap(view, 6 * page);
	close(buf);
	refused(create(device, fd, 2 * HUGE, page), EINVAL, "behind the last huge page");
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
 * reserved makes the count of those wrap, and a kernel with CONFIG_DEBUG_VM stop.
 */
static void untouched(int device)
{
	int fd = memfd_with(2 * HUGE, MFD_HUGETLB, F_SEAL_SHRINK), other, buf;

	if (in_tree()) {
		skip("huge pages never touched: the kernel miscounts them (6.12)");
		close(fd);
		return;
	}
	other = reopened(fd, O_RDONLY);
	refused(create(device, other, 0, HUGE), ENOMEM, "a huge page never touched, read-only");
	close(other);
	buf = accepted(create(device, fd, page, page), "a huge page that was never touched");
	close(buf);
	/* Now the first exists, and the second does not. */
	other = reopened(fd, O_RDONLY);
	buf = accepted(create(device, other, 0, HUGE), "it is there, for a read-only one as well");
	close(buf);
	refused(create(device, other, HUGE - page, 2 * page), ENOMEM, "half of it is not");
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
	char before[64] = "", *word;

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
