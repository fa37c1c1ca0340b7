/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/gem-grant: gives the pages of a dma-buf or memfd to the backend domain, under Xen.
 *
 * What /dev/gem-locate is for where the host has the guest's memory as a file. Xen's dom0
 * has no such thing: it maps pages that were granted to it, by the numbers of the grants
 * ("grant references", refs).
 *
 *	device = open("/dev/gem-grant", O_RDWR | O_CLOEXEC);
 *	granted = ioctl(device, GEM_GRANT_PAGES, &request);
 *	ioctl(granted, GEM_GRANT_RUNS, &list);
 *	...					(the other domain may map the refs)
 *	close(granted);
 *
 * After the close the refs are taken back as soon as the other domain has unmapped them, and
 * only then are the pages let go. Until then they count against the limits.
 *
 * All structures are the same for 32 and 64 bits. What is called reserved must be zero
 * on entry, and is zero on return.
 */
#ifndef _UAPI_LINUX_GEM_GRANT_H
#define _UAPI_LINUX_GEM_GRANT_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Raised when something is added; nothing is ever changed or removed. */
#define GEM_GRANT_ABI_VERSION 1

/**
 * struct gem_grant_info - what the driver can do, and for whom
 * @version: GEM_GRANT_ABI_VERSION of the driver
 * @domid: the domain that may map what is granted
 */
struct gem_grant_info {
	__u32 version;
	__u32 domid;
};

/**
 * struct gem_grant_counts - what is granted at the moment, by everybody
 * @objects: returned by GEM_GRANT_PAGES, and not let go yet
 * @refs: that can be mapped, or are
 * @closed_objects: of the objects those that are closed, and still mapped
 * @closed_refs: of the refs those that are still mapped though closed
 */
struct gem_grant_counts {
	__u64 objects;
	__u64 refs;
	__u64 closed_objects;
	__u64 closed_refs;
};

/**
 * struct gem_grant_pages - a range of a dma-buf, memfd or tmpfs file, to be granted
 * @fd: in: of the dma-buf, or of the file, open for reading and writing
 * @flags: in: zero
 * @offset: in: where the range begins, in bytes: a multiple of the page size
 * @length: in: of the range, likewise; it may reach to the end of the file's last page
 * @count: out: how many runs the refs are; zero on entry
 * @reserved: zero
 */
struct gem_grant_pages {
	__s32 fd;
	__u32 flags;
	__u64 offset;
	__u64 length;
	__u32 count;
	__u32 reserved;
};

/**
 * struct gem_grant_run - refs with consecutive numbers, a page each
 * @first: the first of them
 * @count: how many, not zero
 */
struct gem_grant_run {
	__u32 first;
	__u32 count;
};

/**
 * struct gem_grant_runs - the refs, in the order of the pages
 * @runs: in: address of an array of &struct gem_grant_run
 * @count: in: for how many there is room there; out: how many there are
 * @reserved: zero
 *
 * As many as there are and as there is room for are written: to have all, @count must
 * not be larger on return than on entry. The runs never change while the file is open.
 */
struct gem_grant_runs {
	__u64 runs;
	__u32 count;
	__u32 reserved;
};

/* Of /dev/gem-grant. */
#define GEM_GRANT_INFO _IOR('w', 0x68, struct gem_grant_info)
#define GEM_GRANT_COUNTS _IOR('w', 0x69, struct gem_grant_counts)
/* Returns a new file descriptor (close-on-exec). */
#define GEM_GRANT_PAGES _IOWR('w', 0x6a, struct gem_grant_pages)
/* Of the descriptors that the above returns. */
#define GEM_GRANT_RUNS _IOWR('w', 0x6b, struct gem_grant_runs)

#endif /* _UAPI_LINUX_GEM_GRANT_H */
