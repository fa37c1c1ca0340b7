/* SPDX-License-Identifier: GPL-2.0-only */
/* What /dev/gem-locate-exporter makes. Shared by the module and the test program. */
#ifndef WLPROXY_GEM_LOCATE_EXPORTER_H
#define WLPROXY_GEM_LOCATE_EXPORTER_H

/* All but EXPORTER_CUT are EXPORTER_PAGES pages; numbers are part of the ioctl's. */
#define EXPORTER_PAGES 8

enum exporter_kind {
	EXPORTER_RAM,		/* pages, mapped as they should be */
	EXPORTER_EMPTY,		/* the same, with empty segments in between and at the end */
	EXPORTER_LONG,		/* a page more than the dma-buf has */
	EXPORTER_CUT,		/* ends within its last page */
	EXPORTER_SHORT,		/* a page less than the dma-buf has */
	EXPORTER_NOTHING,	/* only empty segments */
	EXPORTER_JOINED,	/* fewer segments for the device than there were */
	EXPORTER_ELSEWHERE,	/* one address is that of another page */
	EXPORTER_DEVICE,	/* in a device's memory: a PCI device's BAR */
	EXPORTER_MIXED,		/* pages, but the last is in that BAR */
	EXPORTER_DEVICE_PAGES,	/* in that BAR, where it has struct pages */
	EXPORTER_DYNAMIC,	/* can be moved: has pin() and unpin() */
	EXPORTER_NO_ATTACH,	/* attach() says ENODEV */
	EXPORTER_NO_MAP,	/* map_dma_buf() says EBUSY */
	EXPORTER_NULL_MAP,	/* map_dma_buf() returns NULL, which means no memory */
	EXPORTER_KINDS,
};

enum exporter_count {
	EXPORTER_BUFFERS,	/* dma-bufs that there are */
	EXPORTER_ATTACHMENTS,	/* to them */
	EXPORTER_MAPPINGS,	/* of those */
	EXPORTER_PINS,		/* calls of pin(), ever */
	EXPORTER_COUNTS,
};

/* A new dma-buf of a kind: ENXIO without the PCI device, EOPNOTSUPP without struct pages. */
#define EXPORTER_CREATE(kind) _IO('x', kind)
/* Returns a count. */
#define EXPORTER_COUNT(count) _IO('x', 0x40 + (count))
/* 1 if the kernel hides the pages of a dma-buf from who it is mapped for. */
#define EXPORTER_PAGES_HIDDEN _IO('x', 0x80)
/* Adds n to the first word of the n-th page (from 1) of a dma-buf, as the kernel maps it. */
#define EXPORTER_VMAP _IO('x', 0x81)
/* Does what must not be done, where the kernel is built to see it: else ENOTTY. */
#define EXPORTER_FAULT(fault) _IO('x', 0x90 + (fault))

enum exporter_fault {
	EXPORTER_LEAK,		/* memory that nobody has an address of */
	EXPORTER_SLEEP,		/* sleeps with a spinlock held */
	EXPORTER_DEADLOCK,	/* takes two locks in one order, then in the other */
	EXPORTER_INDEX,		/* reads behind an array */
	EXPORTER_USE_FREED,	/* reads what was freed */
};

#endif /* WLPROXY_GEM_LOCATE_EXPORTER_H */
