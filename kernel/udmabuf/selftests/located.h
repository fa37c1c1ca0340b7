/* SPDX-License-Identifier: GPL-2.0-only */
/* What the tests of gem_locate share. */
#ifndef WLPROXY_SELFTESTS_LOCATED_H
#define WLPROXY_SELFTESTS_LOCATED_H

#include "common.h"
#include <linux/gem_locate.h>

struct located {
	int fd;
	uint64_t bytes;
	unsigned int count;
	struct gem_locate_extent *extents;
};

static UNUSED int locate_memfd(int device, int fd, uint64_t offset, uint64_t length)
{
	struct gem_locate_memfd request = { .fd = fd, .offset = offset, .length = length };

	return ioctl(device, GEM_LOCATE_MEMFD, &request);
}

static UNUSED int locate_dmabuf(int device, int fd)
{
	struct gem_locate_dmabuf request = { .fd = fd };

	return ioctl(device, GEM_LOCATE_DMABUF, &request);
}

/* All extents of what was located. */
static UNUSED bool read_extents(struct located *it, int fd)
{
	struct gem_locate_extents list = { 0 };

	*it = (struct located){ .fd = fd };
	if (fd < 0 || ioctl(fd, GEM_LOCATE_EXTENTS, &list))
		return false;
	it->count = list.count;
	it->extents = calloc(list.count, sizeof(*it->extents));
	list.extents = (uintptr_t)it->extents;
	if (ioctl(fd, GEM_LOCATE_EXTENTS, &list) || list.count != it->count)
		return false;
	for (unsigned int i = 0; i < it->count; i++)
		it->bytes += it->extents[i].length;
	return true;
}

static UNUSED void forget(struct located *it)
{
	free(it->extents);
	close(it->fd);
}

/* Of the n-th page of what was located. */
static UNUSED uint64_t address_of_page(const struct located *it, size_t n)
{
	uint64_t at = n * page;

	for (unsigned int i = 0; i < it->count; i++) {
		if (at < it->extents[i].length)
			return it->extents[i].gpa + at;
		at -= it->extents[i].length;
	}
	return 0;
}

/* Whether neighbours are merged, and nothing is empty or unaligned. */
static UNUSED bool well_formed(const struct located *it)
{
	bool ok = it->count != 0;

	for (unsigned int i = 0; i < it->count; i++) {
		const struct gem_locate_extent *e = &it->extents[i];

		ok &= e->length && e->length % page == 0 && e->gpa % page == 0;
		ok &= !i || e[-1].gpa + e[-1].length != e->gpa;
	}
	return ok;
}

/* Where the kernel says that a page of this process is; 0 if it does not say. */
static UNUSED uint64_t address_by_pagemap(const volatile void *address)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	(void)*(const volatile char *)address;
	if (pread(fd, &entry, 8, (uintptr_t)address / page * 8) != 8)
		entry = 0;
	close(fd);
	return (entry & ((1ULL << 55) - 1)) * page;
}

#endif /* WLPROXY_SELFTESTS_LOCATED_H */
