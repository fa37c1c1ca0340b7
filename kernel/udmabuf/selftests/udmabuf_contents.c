// SPDX-License-Identifier: GPL-2.0-only
/* The bytes of a dma-buf are those of its memfds, in order, and there are no others. */
#include "common.h"
#include "exporter/gem_locate_exporter.h"

static void shared_both_ways(int device)
{
	int fd = memfd(4 * page), buf;
	char *file, *view;

	number_pages(fd, 4, 100);
	buf = accepted(create(device, fd, page, 2 * page), "two pages in the middle");
	check(lseek(buf, 0, SEEK_END) == (off_t)(2 * page), "its size is that of the range");
	file = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	view = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);
	check(view != MAP_FAILED, "mapped");
	check(page_is_number(view, 0, 101) && page_is_number(view, 1, 102), "shows the pages");
	view[page + 17] = 'x';
	check(file[2 * page + 17] == 'x', "a write to it is in the file");
	file[page + 18] = 'y';
	check(view[18] == 'y', "a write to the file is in it");
	munmap(view, 2 * page);
	view = mmap(NULL, page, PROT_READ, MAP_SHARED, buf, page);
	check(view != MAP_FAILED && view[17] == 'x', "mapped from its second page on");
	munmap(view, page);
	munmap(file, 4 * page);
	close(buf);
	close(fd);
}

static void lists(int device)
{
	enum { ITEMS = 200 };
	struct udmabuf_create_item items[ITEMS];
	int a = memfd(ITEMS * page), b = memfd(ITEMS * page), buf, i;
	bool ok = true;
	void *view;

	number_pages(a, ITEMS, 1000);
	number_pages(b, ITEMS, 2000);
	/* Backwards, from both in turn, and with the same page several times. */
	for (i = 0; i < ITEMS; i++)
		items[i] = (struct udmabuf_create_item){
			.memfd = i % 2 ? a : b,
			.offset = (uint64_t)(ITEMS - 1 - i / 3) * page,
			.size = page,
		};
	buf = accepted(create_list(device, items, ITEMS), "a list of 200 pages of two files");
	view = mmap(NULL, ITEMS * page, PROT_READ, MAP_SHARED, buf, 0);
	for (i = 0; i < ITEMS; i++)
		ok &= page_is_number(view, i, (i % 2 ? 1000 : 2000) + ITEMS - 1 - i / 3);
	check(ok, "all pages are in the order of the list");
	munmap(view, ITEMS * page);
	close(buf);
	check(nothing_held(a) && nothing_held(b), "closed: no page is held");
	close(a);
	close(b);
}

/* Past fault of other drivers: bytes behind the end of the dma-buf could be reached. */
static void bounds(int device)
{
	int fd = memfd(8 * page), buf = create(device, fd, 0, 2 * page);
	char *view, *grown;

	refused(mmap(NULL, 3 * page, PROT_READ, MAP_SHARED, buf, 0) == MAP_FAILED ? -1 : 0,
		EINVAL, "mapping more than there is");
	refused(mmap(NULL, page, PROT_READ, MAP_SHARED, buf, 2 * page) == MAP_FAILED ? -1 : 0,
		EINVAL, "mapping what is behind it");
	check(mmap(NULL, page, PROT_READ, MAP_SHARED, buf, -(off_t)page) == MAP_FAILED,
	      "mapping it from the end of all offsets on is refused");
	refused(mmap(NULL, page, PROT_READ, MAP_PRIVATE, buf, 0) == MAP_FAILED ? -1 : 0,
		EINVAL, "a private mapping");
	view = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, buf, 0);
	grown = mremap(view, 2 * page, 4 * page, MREMAP_MAYMOVE);
	if (grown == MAP_FAILED) {
		check(true, "a mapping does not grow beyond the end");
	} else {
		check(signal_of_read(grown + 2 * page) == SIGBUS, "beyond the end is SIGBUS");
		view = grown;
	}
	check(signal_of_read(view + page) == 0, "the last page can be read");
	munmap(view, 2 * page);
	/* By way of an old-style non-linear mapping, where that still works. */
	view = mmap(NULL, 2 * page, PROT_READ, MAP_SHARED, buf, 0);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	if (remap_file_pages(view, page, 0, 4, 0) == 0)
		check(signal_of_read(view) == SIGBUS, "rearranged to beyond the end: SIGBUS");
	else
		check(true, "a mapping cannot be rearranged to beyond the end");
#pragma GCC diagnostic pop
	munmap(view, 2 * page);
	close(buf);
	close(fd);
}

static void holes_and_growth(int device)
{
	int fd = memfd(4 * page), buf = create(device, fd, 0, 4 * page);
	char *view = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);
	char byte = 1;

	check(view != MAP_FAILED && view[3 * page] == 0, "holes are zero");
	memset(view, 'h', 4 * page);
	munmap(view, 4 * page);
	check(ftruncate(fd, 8 * page) == 0, "the file can grow meanwhile");
	check(ftruncate(fd, page) == -1 && errno == EPERM, "but not shrink");
	refused(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY, "F_SEAL_WRITE meanwhile");
	close(buf);
	/* Nothing but the dma-buf ever wrote to the page. */
	check(pread(fd, &byte, 1, 3 * page + 5) == 1 && byte == 'h', "what was written stays");
	close(fd);
}

/* Written to through the dma-buf only, then pushed out: it must come back. */
static void survives_reclaim(int device)
{
	const size_t pages = 256;
	int fd = memfd(pages * page), buf = create(device, fd, 0, pages * page);
	uint64_t *view = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);
	size_t words = page / sizeof(*view), i, lost = 0;

	for (i = 0; i < pages; i++)
		view[i * words] = view[i * words + words - 1] = i + 7;
	munmap(view, pages * page);
	close(buf);
	view = mmap(NULL, pages * page, PROT_READ, MAP_SHARED, fd, 0);
	/* Only what is in the page tables is pushed out. */
	for (i = 0; i < pages; i++)
		lost += !page_is_number(view, i, i + 7);
	check(!lost, "pages that only the dma-buf wrote to are the file's");
	if (proc_value("/proc/meminfo", "SwapFree") <= 0 ||
	    madvise(view, pages * page, 21 /* MADV_PAGEOUT */)) {
		skip("no swap, or no MADV_PAGEOUT");
		return;
	}
	printf("# swapped out: %ld kB\n", proc_value("/proc/meminfo", "SwapTotal") -
	       proc_value("/proc/meminfo", "SwapFree"));
	for (i = 0; i < pages; i++)
		lost += !page_is_number(view, i, i + 7);
	/* The driver that is part of Linux fails here: this is a difference on purpose. */
	check(!lost || in_tree(), "and survive reclaim (%zu lost)", lost);
	munmap(view, pages * page);
	close(fd);
}

static void cpu_access(int device)
{
	int fd = memfd(page), buf = create(device, fd, 0, page);
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };

	check(ioctl(buf, DMA_BUF_IOCTL_SYNC, &sync) == 0, "begin of CPU access");
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW;
	check(ioctl(buf, DMA_BUF_IOCTL_SYNC, &sync) == 0, "end of CPU access");
	sync.flags = ~0ULL;
	refused(ioctl(buf, DMA_BUF_IOCTL_SYNC, &sync), EINVAL, "CPU access with unknown flags");
	close(buf);
	close(fd);
}

/* Mappings of the kernel's own that the udmabuf driver has made and not undone. */
static unsigned int mapped_by_kernel(void)
{
	FILE *file = fopen("/proc/vmallocinfo", "re");
	unsigned int count = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		count += !!strstr(line, "udmabuf_vmap");
	if (file)
		fclose(file);
	return count;
}

/* As drivers without DMA have it; the module in exporter/ plays one. */
static void by_the_kernel(int device)
{
	const size_t words = page / sizeof(uint64_t), pages = 70;
	int exporter = open("/dev/gem-locate-exporter", O_RDWR | O_CLOEXEC);
	int fd = memfd(pages * page), buf;
	struct udmabuf_create_item items[2] = {
		{ .memfd = fd, .offset = 30 * page, .size = 40 * page },
		{ .memfd = fd, .size = 30 * page },
	};
	size_t wrong = 0, failed = 0;
	uint64_t *map;

	if (exporter < 0) {
		skip("mapped by the kernel: no /dev/gem-locate-exporter");
		close(fd);
		return;
	}
	number_pages(fd, pages, 600);
	buf = accepted(create_list(device, items, 2), "70 pages for the kernel");
	for (int i = 0; i < 100; i++)
		failed += ioctl(exporter, EXPORTER_VMAP, buf) != 0;
	check(!failed, "mapped by the kernel, a hundred times");
	map = mmap(NULL, pages * page, PROT_READ, MAP_SHARED, fd, 0);
	for (size_t i = 0; i < pages; i++)
		wrong += map[i * words] != 600 + i + 100 * ((i + 40) % 70 + 1) ||
			 map[i * words + words - 1] != 600 + i;
	check(!wrong, "it reads and writes the right pages: %zu are wrong", wrong);
	munmap(map, pages * page);
	check(!mapped_by_kernel(), "no such mapping is left");
	close(buf);
	check(nothing_held(fd), "closed: no page is held");
	close(fd);
	close(exporter);
}

/*
 * The dma-buf can be written to, so a descriptor that is open for reading only does not
 * get one; the driver that is part of Linux gives it one all the same.
 */
static void read_only_descriptor(int device)
{
	int fd = memfd(page), reading;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reading = open(path, O_RDONLY | O_CLOEXEC);
	if (in_tree())
		close(accepted(create(device, reading, 0, page), "open for reading only"));
	else
		refused(create(device, reading, 0, page), EACCES, "open for reading only");
	check(nothing_held(fd), "open for reading only: no page is held");
	close(reading);
	close(fd);
}

static void ragged_end(int device)
{
	int fd = memfd(page + 100), buf = create(device, fd, 0, 2 * page);

	if (in_tree()) {
		skip("a file that ends within a page: in-tree answers differ by version");
		close(buf);
	} else {
		close(accepted(buf, "a file that ends within a page"));
	}
	close(fd);
}

int main(void)
{
	int device = open_udmabuf();

	shared_both_ways(device);
	lists(device);
	bounds(device);
	holes_and_growth(device);
	survives_reclaim(device);
	cpu_access(device);
	by_the_kernel(device);
	read_only_descriptor(device);
	ragged_end(device);
	return finish();
}
