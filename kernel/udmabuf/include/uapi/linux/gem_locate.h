/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/gem-locate: where in physical memory the bytes of a dma-buf or memfd are.
 *
 * Meant for virtual machines: what the guest calls physical memory is where its host,
 * which has the guest's memory as a file, finds the bytes.
 *
 *	device = open("/dev/gem-locate", O_RDWR | O_CLOEXEC);
 *	located = ioctl(device, GEM_LOCATE_DMABUF, &request);	(or GEM_LOCATE_MEMFD)
 *	ioctl(located, GEM_LOCATE_EXTENTS, &list);
 *	...					(the bytes stay where they are)
 *	close(located);
 *
 * All structures are the same for 32 and 64 bits. What is called reserved must be zero
 * on entry, and is zero on return.
 */
#ifndef _UAPI_LINUX_GEM_LOCATE_H
#define _UAPI_LINUX_GEM_LOCATE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Raised when something is added; nothing is ever changed or removed. */
#define GEM_LOCATE_ABI_VERSION 1

/**
 * struct gem_locate_version - what the driver can do
 * @version: GEM_LOCATE_ABI_VERSION of the driver
 * @reserved: zero
 */
struct gem_locate_version {
	__u32 version;
	__u32 reserved;
};

/**
 * struct gem_locate_dmabuf - a dma-buf, to be located
 * @fd: in: of the dma-buf
 * @flags: in: zero
 * @size: out: of the dma-buf, in bytes; zero on entry
 * @count: out: in how many extents it is; zero on entry
 * @reserved: zero
 */
struct gem_locate_dmabuf {
	__s32 fd;
	__u32 flags;
	__u64 size;
	__u32 count;
	__u32 reserved;
};

/**
 * struct gem_locate_memfd - a range of a memfd or tmpfs file, to be located
 * @fd: in: of the file, open for reading
 * @flags: in: zero
 * @offset: in: where the range begins, in bytes: a multiple of the page size
 * @length: in: of the range, likewise; it may reach to the end of the file's last page
 * @count: out: in how many extents it is; zero on entry
 * @reserved: zero
 */
struct gem_locate_memfd {
	__s32 fd;
	__u32 flags;
	__u64 offset;
	__u64 length;
	__u32 count;
	__u32 reserved;
};

/**
 * struct gem_locate_extent - physically contiguous bytes
 * @gpa: their physical address (the "guest-physical address", for the host)
 * @length: how many, not zero
 */
struct gem_locate_extent {
	__u64 gpa;
	__u64 length;
};

/**
 * struct gem_locate_extents - the extents, in the order of the bytes
 * @extents: in: address of an array of &struct gem_locate_extent
 * @count: in: for how many there is room there; out: how many there are
 * @reserved: zero
 *
 * As many as there are and as there is room for are written: to have all, @count must
 * not be larger on return than on entry. The extents never change while the file is open.
 */
struct gem_locate_extents {
	__u64 extents;
	__u32 count;
	__u32 reserved;
};

/* Of /dev/gem-locate. */
#define GEM_LOCATE_VERSION _IOR('w', 0x60, struct gem_locate_version)
/* These two return a new file descriptor (close-on-exec). */
#define GEM_LOCATE_DMABUF _IOWR('w', 0x61, struct gem_locate_dmabuf)
#define GEM_LOCATE_MEMFD _IOWR('w', 0x62, struct gem_locate_memfd)
/* Of the descriptors that the above return. */
#define GEM_LOCATE_EXTENTS _IOWR('w', 0x63, struct gem_locate_extents)

#endif /* _UAPI_LINUX_GEM_LOCATE_H */
