/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A dma-buf that is kept where it is. What gem_locate and gem_grant share; it is compiled
 * into both.
 */
#ifndef WLPROXY_DMABUF_HOLD_H
#define WLPROXY_DMABUF_HOLD_H

#include <linux/types.h>

struct device;
struct dma_buf;
struct dma_buf_attachment;
struct platform_device;
struct sg_table;

/**
 * struct dmabuf_hold - a dma-buf, mapped for a device so that it stays where it is
 * @buf: the dma-buf, with a reference of the caller's, or NULL
 * @attachment: to @buf
 * @table: the mapping of @attachment
 */
struct dmabuf_hold {
	struct dma_buf *buf;
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
};

struct platform_device *dmabuf_hold_device(const char *name);
int dmabuf_hold_map(struct dmabuf_hold *hold, struct device *device);
void dmabuf_hold_unmap(struct dmabuf_hold *hold);
bool dmabuf_hold_is_ram(u64 gpa, u64 length);

#endif /* WLPROXY_DMABUF_HOLD_H */
