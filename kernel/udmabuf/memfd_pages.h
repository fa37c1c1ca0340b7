/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The pages of ranges of memfds, held until they are released.
 *
 * "memfd" is meant widely: any regular file of shmem (memfd_create, tmpfs, /dev/shm) or of
 * hugetlbfs. Both modules need this and nothing else of each other: memfd_pages.c is
 * linked into each, so nothing here is exported.
 */
#ifndef WLPROXY_MEMFD_PAGES_H
#define WLPROXY_MEMFD_PAGES_H

#include <linux/init.h>
#include <linux/limits.h>
#include <linux/types.h>

struct file;
struct page;

/* Arrays of more than INT_MAX bytes are refused by kvmalloc, with a warning. */
#define MEMFD_PAGES_MAX (INT_MAX / sizeof(struct page *))

enum memfd_pages_kind {
	MEMFD_PAGES_NONE,
	MEMFD_PAGES_SHMEM,
	MEMFD_PAGES_HUGETLB,
};

/**
 * struct memfd_pages - pages of one or several memfds, in order
 * @page: the pages
 * @held: bit i is set if page[i] is the first of a folio that was got with it: there is
 *	one reference or pin for each bit, not for each page
 * @count: how many pages there are so far
 * @capacity: for how many there is room
 */
struct memfd_pages {
	struct page **page;
	unsigned long *held;
	pgoff_t count;
	pgoff_t capacity;
};

int __init memfd_pages_setup(void);
enum memfd_pages_kind memfd_pages_kind(struct file *file);
unsigned int memfd_pages_seals(struct file *file, enum memfd_pages_kind kind);
bool memfd_pages_reach(struct file *file, u64 offset, u64 length);
int memfd_pages_init(struct memfd_pages *pages, pgoff_t capacity);
void memfd_pages_populate(struct file *file, enum memfd_pages_kind kind, u64 offset,
			  pgoff_t count);
int memfd_pages_add(struct memfd_pages *pages, struct file *file, enum memfd_pages_kind kind,
		    u64 offset, pgoff_t count);
int memfd_pages_hold_range(struct memfd_pages *pages, struct file *file,
			   enum memfd_pages_kind kind, u64 offset, pgoff_t count,
			   unsigned int forbidden);
void memfd_pages_release(struct memfd_pages *pages);

#endif /* WLPROXY_MEMFD_PAGES_H */
