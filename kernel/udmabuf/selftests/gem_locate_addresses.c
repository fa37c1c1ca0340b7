// SPDX-License-Identifier: GPL-2.0-only
/*
 * The addresses are right, and stay right. Needs root, to compare with /proc/self/pagemap.
 *
 * gem_locate_addresses --hold: locates one object of each kind, filled with numbered pages,
 * prints "KIND FIRST-NUMBER GPA LENGTH ..." for each and waits for the end of its standard
 * input. Whoever reads memory from outside the machine can then compare.
 */
#include "dumb.h"
#include "located.h"

#include <linux/dma-heap.h>

#define PAGES 2048UL
#define KINDS 6

struct exported {
	const char *kind;
	char driver[32];	/* of DRM, if it is one's */
	int fd;		/* of the dma-buf, or of the memfd */
	void *map;	/* its bytes */
};

static bool from_udmabuf(struct exported *it)
{
	const char *path = getenv("UDMABUF_DEVICE");
	int device = open(path ? path : "/dev/udmabuf", O_RDWR | O_CLOEXEC), fd;

	if (device < 0)
		return false;
	fd = memfd(PAGES * page);
	it->fd = create(device, fd, 0, PAGES * page);
	it->map = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	close(device);
	return it->fd >= 0 && it->map != MAP_FAILED;
}

static bool from_dma_heap(struct exported *it)
{
	struct dma_heap_allocation_data data = {
		.len = PAGES * page, .fd_flags = O_RDWR | O_CLOEXEC,
	};
	int device = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);

	if (device < 0 || ioctl(device, DMA_HEAP_IOCTL_ALLOC, &data))
		return false;
	close(device);
	it->fd = data.fd;
	it->map = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED, it->fd, 0);
	return it->map != MAP_FAILED;
}

static bool from_drm(struct exported *it, int card)
{
	struct create_dumb dumb = { .width = 1024, .height = PAGES, .bpp = 32 };
	struct prime_handle handle = { .flags = O_RDWR | O_CLOEXEC };
	struct map_dumb map = { 0 };
	int device = open_card(card, it->driver);

	/* Those that are not in RAM: see gem_locate_exporters. */
	if (device < 0 || in_video_memory(it->driver) || ioctl(device, CREATE_DUMB, &dumb))
		return false;
	map.handle = handle.handle = dumb.handle;
	if (ioctl(device, HANDLE_TO_FD, &handle) || ioctl(device, MAP_DUMB, &map))
		return false;
	it->fd = handle.fd;
	it->map = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED, device, map.offset);
	return it->map != MAP_FAILED;
}

static bool make(struct exported *it, int n)
{
	static const char *const kinds[KINDS] = {
		"udmabuf", "dma-heap", "card0", "card1", "card2", "card3",
	};

	*it = (struct exported){ .kind = kinds[n], .fd = -1 };
	if (n < 2)
		return n == 0 ? from_udmabuf(it) : from_dma_heap(it);
	if (from_drm(it, n - 2)) {
		it->kind = it->driver;
		return true;
	}
	return false;
}

static void fill(void *map, uint64_t first)
{
	uint64_t *at = map;
	const size_t words = page / sizeof(*at);

	for (size_t i = 0; i < PAGES; i++)
		at[i * words] = at[i * words + words - 1] = first + i;
}

static bool same_as_pagemap(const struct located *it, char *map, size_t pages)
{
	size_t wrong = 0;

	for (size_t i = 0; i < pages; i++)
		wrong += address_by_pagemap(map + i * page) != address_of_page(it, i);
	if (wrong)
		printf("# %zu of %zu pages are elsewhere\n", wrong, pages);
	return !wrong;
}

static void memfds(int device, unsigned int flags)
{
	int fd = memfd_with(PAGES * page, flags, 0);
	struct located it, part;
	char *map;

	if (fd < 0)
		return;
	map = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED ||
	    (flags && proc_value("/proc/meminfo", "HugePages_Free") < 4)) {
		skip("no huge pages");
		close(fd);
		return;
	}
	fill(map, 0);
	check(read_extents(&it, locate_memfd(device, fd, 0, PAGES * page)),
	      "memfd%s is located", flags ? " of huge pages" : "");
	check(it.bytes == PAGES * page && well_formed(&it), "in %u extents", it.count);
	if (address_by_pagemap(map))
		check(same_as_pagemap(&it, map, PAGES), "where /proc/self/pagemap says");
	else
		skip("no right to read /proc/self/pagemap");
	read_extents(&part, locate_memfd(device, fd, 100 * page, 50 * page));
	check(part.bytes == 50 * page &&
	      address_of_page(&part, 0) == address_of_page(&it, 100) &&
	      address_of_page(&part, 49) == address_of_page(&it, 149), "so is a part of it");
	forget(&part);
	if (!flags && address_by_pagemap(map)) {
		write_file("/proc/sys/vm/compact_memory", "1");
		madvise(map, PAGES * page, 25 /* MADV_COLLAPSE */);
		madvise(map, PAGES * page, 21 /* MADV_PAGEOUT */);
		check(same_as_pagemap(&it, map, PAGES), "still, after compaction and reclaim");
	}
	forget(&it);
	munmap(map, PAGES * page);
	check(nothing_held(fd), "no page is held any more");
	close(fd);
}

static void holes(int device)
{
	int fd = memfd(64 * page);
	struct located it;
	char *map;

	check(read_extents(&it, locate_memfd(device, fd, 0, 64 * page)), "holes are filled");
	map = mmap(NULL, 64 * page, PROT_READ, MAP_SHARED, fd, 0);
	if (address_by_pagemap(map))
		check(same_as_pagemap(&it, map, 64), "with pages that stay the file's");
	/*
	 * The file loses its pages; they stay what they are until they are let go. A huge
	 * one that is held cannot be split, and is zeroed instead.
	 */
	fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 64 * page);
	check(!signal_of_read(map) && !map[0], "punched: the file's are empty");
	forget(&it);
	munmap(map, 64 * page);
	check(nothing_held(fd), "no page is held any more");
	close(fd);
}

static void dmabufs(int device)
{
	for (int n = 0; n < KINDS; n++) {
		struct located it, again;
		struct exported buf;

		if (!make(&buf, n)) {
			if (in_video_memory(buf.driver))
				skip("%s is not in RAM: %s", buf.kind, buf.driver);
			else
				skip("no %s", buf.kind);
			continue;
		}
		fill(buf.map, 0);
		check(read_extents(&it, locate_dmabuf(device, buf.fd)), "%s is located", buf.kind);
		check(it.bytes >= PAGES * page && well_formed(&it), "in %u extents", it.count);
		if (!n && address_by_pagemap(buf.map))
			check(same_as_pagemap(&it, buf.map, PAGES), "where its memfd's pages are");
		read_extents(&again, locate_dmabuf(device, buf.fd));
		check(again.count == it.count &&
		      !memcmp(again.extents, it.extents, it.count * sizeof(*it.extents)),
		      "it is there when asked again");
		forget(&again);
		close(buf.fd);
		munmap(buf.map, PAGES * page);
		forget(&it);
	}
}

static int hold(int device)
{
	char byte;

	for (int n = 0; n < KINDS; n++) {
		struct exported buf;
		struct located it;

		if (!make(&buf, n))
			continue;
		fill(buf.map, 1000000 * (n + 1));
		if (!read_extents(&it, locate_dmabuf(device, buf.fd))) {
			printf("# %s: %s\n", buf.kind, strerrorname_np(errno));
			continue;
		}
		printf("%s %u", buf.kind, 1000000 * (n + 1));
		for (unsigned int i = 0; i < it.count; i++)
			printf(" %llu %llu", it.extents[i].gpa, it.extents[i].length);
		printf("\n");
	}
	printf("# held\n");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	return 0;
}

int main(int argc, char **argv)
{
	int device = open_gem_locate();

	if (argc > 1 && !strcmp(argv[1], "--hold"))
		return hold(device);
	memfds(device, 0);
	write_file("/proc/sys/vm/nr_hugepages", "4");
	memfds(device, MFD_HUGETLB);
	write_file("/proc/sys/vm/nr_hugepages", "0");
	holes(device);
	dmabufs(device);
	return finish();
}
