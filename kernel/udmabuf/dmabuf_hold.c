// SPDX-License-Identifier: GPL-2.0-only
/*
 * A dma-buf that is kept where it is: see dmabuf_hold.h.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/ioport.h>
#include <linux/mm.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/swiotlb.h>

#include "compat.h"
#include "dmabuf_hold.h"

/* The device writes nothing, so that it may have one dma-buf mapped any number of times. */
#define DMABUF_HOLD_READS DMA_TO_DEVICE

/**
 * dmabuf_hold_device() - make a device that dma-bufs can be mapped for
 * @name: its name
 *
 * It reaches all memory, and has no IOMMU.
 *
 * Return: the device, for platform_device_unregister(), or an ERR_PTR().
 */
struct platform_device *dmabuf_hold_device(const char *name)
{
	struct platform_device *device =
		platform_device_register_simple(name, PLATFORM_DEVID_NONE, NULL, 0);
	int error;

	if (IS_ERR(device))
		return device;
	error = dma_coerce_mask_and_coherent(&device->dev, DMA_BIT_MASK(64));
	if (error) {
		platform_device_unregister(device);
		return ERR_PTR(error);
	}
	dma_set_max_seg_size(&device->dev, UINT_MAX);
	return device;
}

/**
 * dmabuf_hold_map() - keep a dma-buf where it is
 * @hold: what to set up; its @buf is set already
 * @device: for which: one of dmabuf_hold_device()
 *
 * Return: 0; then dmabuf_hold_unmap() must follow one day. -EOPNOTSUPP: its driver may move
 * it. -EXDEV: what the device would see is a copy, or translated. Or another negative errno.
 */
int dmabuf_hold_map(struct dmabuf_hold *hold, struct device *device)
{
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
	int error;

	/*
	 * An exporter that can move its buffers would have to be told to stop, which
	 * may mean to take them away from a GPU: not for an address.
	 */
	if (dma_buf_is_dynamic(hold->buf))
		return -EOPNOTSUPP;
	if (is_swiotlb_force_bounce(device))
		return -EXDEV;
	attachment = dma_buf_attach(hold->buf, device);
	if (IS_ERR(attachment))
		return PTR_ERR(attachment);
	table = dma_buf_map_attachment_unlocked(attachment, DMABUF_HOLD_READS);
	if (IS_ERR_OR_NULL(table)) {
		error = table ? PTR_ERR(table) : -ENOMEM;
		goto detach;
	}
	/* More segments at first than for the device: an IOMMU has joined some. */
	if (table->nents != table->orig_nents) {
		error = -EXDEV;
		goto unmap;
	}
	hold->attachment = attachment;
	hold->table = table;
	return 0;

unmap:
	dma_buf_unmap_attachment_unlocked(attachment, table, DMABUF_HOLD_READS);
detach:
	dma_buf_detach(hold->buf, attachment);
	return error;
}

/**
 * dmabuf_hold_unmap() - let go of it
 * @hold: what dmabuf_hold_map() has set up; the reference to its @buf stays the caller's
 *
 * May sleep.
 */
void dmabuf_hold_unmap(struct dmabuf_hold *hold)
{
	dma_buf_unmap_attachment_unlocked(hold->attachment, hold->table, DMABUF_HOLD_READS);
	dma_buf_detach(hold->buf, hold->attachment);
}

/**
 * dmabuf_hold_is_ram() - whether bytes are in ordinary memory
 * @gpa: their physical address
 * @length: how many, not zero
 *
 * Return: true if all of them are, and have struct pages.
 */
bool dmabuf_hold_is_ram(u64 gpa, u64 length)
{
	return pfn_valid(PHYS_PFN(gpa)) &&
	       region_intersects(gpa, length, IORESOURCE_SYSTEM_RAM, IORES_DESC_NONE) ==
	       REGION_INTERSECTS;
}
