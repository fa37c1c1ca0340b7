// SPDX-License-Identifier: GPL-2.0-only
/*
 * gem_locate_exporter: dma-bufs as gem_locate must refuse them, and some that it must not.
 *
 * It can also map any dma-buf as a driver without DMA does. For the test programs
 * gem_locate_exporters and udmabuf_contents alone: root can open the device, and nothing
 * else is guarded. What is in a device's memory is in BAR 2 of QEMU's ivshmem: the lower
 * half as it is, the upper one with struct pages (ZONE_DEVICE).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/memremap.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#include "../../compat.h"
#include "gem_locate_exporter.h"

#define BAR 2
/* What struct pages can be had for, at least. */
#define BAR_HALF (4UL << 20)

static atomic_t counts[EXPORTER_COUNTS];
/* Of the PCI device, once there is one: where the halves of its BAR are; else 0. */
static phys_addr_t bar_plain, bar_pages;

struct exporter_buffer {
	enum exporter_kind kind;
	struct page *page[EXPORTER_PAGES];
};

static bool exporter_maps_resource(const struct exporter_buffer *it, unsigned int i)
{
	return it->kind == EXPORTER_DEVICE ||
	       (it->kind == EXPORTER_MIXED && i == EXPORTER_PAGES - 1);
}

/* The n-th page as a segment, as if the DMA API had mapped it; real mappings for a BAR. */
static int exporter_fill_segment(const struct exporter_buffer *it, struct scatterlist *sg,
				 unsigned int i, struct device *device)
{
	phys_addr_t at = page_to_phys(it->page[i]);

	sg_set_page(sg, it->page[i], PAGE_SIZE, 0);
	if (exporter_maps_resource(it, i)) {
		/* As drivers of GPUs do it: there is no page. */
		sg_set_page(sg, NULL, PAGE_SIZE, 0);
		at = dma_map_resource(device, bar_plain + i * PAGE_SIZE, PAGE_SIZE,
				      DMA_BIDIRECTIONAL, DMA_ATTR_SKIP_CPU_SYNC);
		if (dma_mapping_error(device, at))
			return -EIO;
	} else if (it->kind == EXPORTER_DEVICE_PAGES) {
		at = bar_pages + i * PAGE_SIZE;
		sg_set_page(sg, pfn_to_page(PHYS_PFN(at)), PAGE_SIZE, 0);
	} else if (it->kind == EXPORTER_ELSEWHERE && i == EXPORTER_PAGES / 2) {
		at = page_to_phys(it->page[0]);
	}
	sg_dma_address(sg) = at;
	sg_dma_len(sg) = PAGE_SIZE;
	return 0;
}

/* Also of a table that was filled in part. */
static void exporter_free_table(const struct exporter_buffer *it, struct sg_table *table,
				struct device *device)
{
	struct scatterlist *sg;
	unsigned int i;

	for_each_sgtable_sg(table, sg, i)
		if (exporter_maps_resource(it, i) && sg_dma_len(sg))
			dma_unmap_resource(device, sg_dma_address(sg), PAGE_SIZE,
					   DMA_BIDIRECTIONAL, DMA_ATTR_SKIP_CPU_SYNC);
	sg_free_table(table);
}

/* Segments that are wrong in one way or another. */
static int exporter_fill_table(const struct exporter_buffer *it, struct sg_table *table,
			       struct device *device)
{
	unsigned int i, n = EXPORTER_PAGES;
	struct scatterlist *sg;
	int error;

	if (it->kind == EXPORTER_EMPTY)
		n = 2 * EXPORTER_PAGES;
	else if (it->kind == EXPORTER_LONG)
		n = EXPORTER_PAGES + 1;
	else if (it->kind == EXPORTER_SHORT)
		n = EXPORTER_PAGES - 1;
	error = sg_alloc_table(table, n, GFP_KERNEL);
	if (error)
		return error;
	for_each_sgtable_sg(table, sg, i) {
		if (it->kind == EXPORTER_NOTHING || (it->kind == EXPORTER_EMPTY && i % 2)) {
			/* Each must have a page, if nothing else. */
			sg_set_page(sg, it->page[0], PAGE_SIZE, 0);
			sg_dma_address(sg) = 0;
			sg_dma_len(sg) = 0;
			continue;
		}
		if (it->kind == EXPORTER_EMPTY)
			error = exporter_fill_segment(it, sg, i / 2, device);
		else
			error = exporter_fill_segment(it, sg, i % EXPORTER_PAGES, device);
		if (error)
			goto free_table;
	}
	if (it->kind == EXPORTER_JOINED)
		table->nents--;
	return 0;

free_table:
	exporter_free_table(it, table, device);
	return error;
}

static int exporter_map_honestly(struct exporter_buffer *it, struct sg_table *table,
				 struct device *device, enum dma_data_direction direction)
{
	int error;

	error = sg_alloc_table_from_pages(table, it->page, EXPORTER_PAGES, 0,
					  EXPORTER_PAGES * PAGE_SIZE, GFP_KERNEL);
	if (error)
		return error;
	error = dma_map_sgtable(device, table, direction, 0);
	if (error)
		goto free_table;
	return 0;

free_table:
	sg_free_table(table);
	return error;
}

static bool exporter_is_honest(const struct exporter_buffer *it)
{
	return it->kind == EXPORTER_RAM || it->kind == EXPORTER_CUT;
}

static struct sg_table *exporter_map(struct dma_buf_attachment *attachment,
				     enum dma_data_direction direction)
{
	struct exporter_buffer *it = attachment->dmabuf->priv;
	struct sg_table *table;
	int error;

	if (it->kind == EXPORTER_NO_MAP)
		return ERR_PTR(-EBUSY);
	if (it->kind == EXPORTER_NULL_MAP)
		return NULL;
	table = kzalloc(sizeof(*table), GFP_KERNEL);
	if (!table)
		return ERR_PTR(-ENOMEM);
	if (exporter_is_honest(it))
		error = exporter_map_honestly(it, table, attachment->dev, direction);
	else
		error = exporter_fill_table(it, table, attachment->dev);
	if (error)
		goto free_table;
	atomic_inc(&counts[EXPORTER_MAPPINGS]);
	return table;

free_table:
	kfree(table);
	return ERR_PTR(error);
}

static void exporter_unmap(struct dma_buf_attachment *attachment, struct sg_table *table,
			   enum dma_data_direction direction)
{
	struct exporter_buffer *it = attachment->dmabuf->priv;

	if (exporter_is_honest(it))
		dma_unmap_sgtable(attachment->dev, table, direction, 0);
	exporter_free_table(it, table, attachment->dev);
	kfree(table);
	atomic_dec(&counts[EXPORTER_MAPPINGS]);
}

static int exporter_attach(struct dma_buf *buf, struct dma_buf_attachment *attachment)
{
	struct exporter_buffer *it = buf->priv;

	if (it->kind == EXPORTER_NO_ATTACH)
		return -ENODEV;
	atomic_inc(&counts[EXPORTER_ATTACHMENTS]);
	return 0;
}

static void exporter_detach(struct dma_buf *buf, struct dma_buf_attachment *attachment)
{
	atomic_dec(&counts[EXPORTER_ATTACHMENTS]);
}

static int exporter_pin(struct dma_buf_attachment *attachment)
{
	atomic_inc(&counts[EXPORTER_PINS]);
	return 0;
}

static void exporter_unpin(struct dma_buf_attachment *attachment)
{
}

static void exporter_buffer_free(struct exporter_buffer *it)
{
	unsigned int i;

	for (i = 0; i < EXPORTER_PAGES; i++)
		if (it->page[i])
			__free_page(it->page[i]);
	kfree(it);
}

static void exporter_release(struct dma_buf *buf)
{
	exporter_buffer_free(buf->priv);
	atomic_dec(&counts[EXPORTER_BUFFERS]);
}

static const struct dma_buf_ops exporter_ops = {
	.attach = exporter_attach,
	.detach = exporter_detach,
	.map_dma_buf = exporter_map,
	.unmap_dma_buf = exporter_unmap,
	.release = exporter_release,
};

static const struct dma_buf_ops exporter_dynamic_ops = {
	.attach = exporter_attach,
	.detach = exporter_detach,
	.pin = exporter_pin,
	.unpin = exporter_unpin,
	.map_dma_buf = exporter_map,
	.unmap_dma_buf = exporter_unmap,
	.release = exporter_release,
};

static int exporter_buffer_export(struct exporter_buffer *it)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct dma_buf *buf;
	int fd;

	info.ops = it->kind == EXPORTER_DYNAMIC ? &exporter_dynamic_ops : &exporter_ops;
	info.size = EXPORTER_PAGES * PAGE_SIZE - (it->kind == EXPORTER_CUT ? 100 : 0);
	info.flags = O_RDWR;
	info.priv = it;
	buf = dma_buf_export(&info);
	if (IS_ERR(buf)) {
		exporter_buffer_free(it);
		return PTR_ERR(buf);
	}
	atomic_inc(&counts[EXPORTER_BUFFERS]);
	fd = dma_buf_fd(buf, O_CLOEXEC);
	if (fd < 0)
		dma_buf_put(buf);
	return fd;
}

static int exporter_buffer_create(enum exporter_kind kind)
{
	struct exporter_buffer *it;
	unsigned int i;

	if ((kind == EXPORTER_DEVICE || kind == EXPORTER_MIXED) && !bar_plain)
		return -ENXIO;
	if (kind == EXPORTER_DEVICE_PAGES && !bar_pages)
		return bar_plain ? -EOPNOTSUPP : -ENXIO;
	it = kzalloc(sizeof(*it), GFP_KERNEL);
	if (!it)
		return -ENOMEM;
	it->kind = kind;
	for (i = 0; i < EXPORTER_PAGES; i++) {
		it->page[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!it->page[i]) {
			exporter_buffer_free(it);
			return -ENOMEM;
		}
	}
	return exporter_buffer_export(it);
}

#if IS_ENABLED(CONFIG_ZONE_DEVICE)
/* Gives the upper half of the BAR struct pages; without them in the worst case. */
static void exporter_make_pages(struct pci_dev *pci, phys_addr_t at)
{
	struct dev_pagemap *map = devm_kzalloc(&pci->dev, sizeof(*map), GFP_KERNEL);

	if (!map)
		return;
	map->type = MEMORY_DEVICE_GENERIC;
	map->range.start = at;
	map->range.end = at + BAR_HALF - 1;
	map->nr_range = 1;
	if (!IS_ERR(devm_memremap_pages(&pci->dev, map)))
		bar_pages = at;
}
#else
static void exporter_make_pages(struct pci_dev *pci, phys_addr_t at)
{
}
#endif

static int exporter_probe(struct pci_dev *pci, const struct pci_device_id *id)
{
	const phys_addr_t at = pci_resource_start(pci, BAR);
	int error;

	if (bar_plain || pci_resource_len(pci, BAR) < 2 * BAR_HALF)
		return -ENODEV;
	error = pcim_enable_device(pci);
	if (error)
		return error;
	exporter_make_pages(pci, at + BAR_HALF);
	bar_plain = at;
	return 0;
}

static const struct pci_device_id exporter_ids[] = {
	{ PCI_DEVICE(0x1af4, 0x1110) },	/* QEMU's ivshmem */
	{ }
};

static struct pci_driver exporter_driver = {
	.name = KBUILD_MODNAME,
	.id_table = exporter_ids,
	.probe = exporter_probe,
	/* It must stay while there are dma-bufs, which hold the module, not the device. */
	.driver.suppress_bind_attrs = true,
};

/* For faults that are committed on purpose. */
static DEFINE_SPINLOCK(first);
static DEFINE_SPINLOCK(second);
static int few[4];

/* What for: a check that has never failed may be none. */
static long exporter_commit_fault(enum exporter_fault fault)
{
	int *freed;
	int value = 0;

	switch (fault) {
	case EXPORTER_LEAK:
		/* More than one: a stale copy of an address hides one at most. */
		for (value = 0; value < 10; value++) {
			void *leaked = kmalloc(200, GFP_KERNEL);

			OPTIMIZER_HIDE_VAR(leaked);
		}
		return 0;
	case EXPORTER_USE_FREED:
		freed = kmalloc(sizeof(*freed), GFP_KERNEL);
		kfree(freed);
		OPTIMIZER_HIDE_VAR(freed);
		return freed ? READ_ONCE(*freed) & 0 : 0;
	case EXPORTER_SLEEP:
		spin_lock(&first);
		might_sleep();
		spin_unlock(&first);
		return 0;
	case EXPORTER_INDEX:
		/* An address just behind the array would be fine. */
		value = ARRAY_SIZE(few) + 1;
		OPTIMIZER_HIDE_VAR(value);
		return READ_ONCE(few[value]) & 0;
	case EXPORTER_DEADLOCK:
		spin_lock(&first);
		spin_lock(&second);
		spin_unlock(&second);
		spin_unlock(&first);
		spin_lock(&second);
		spin_lock(&first);
		spin_unlock(&first);
		spin_unlock(&second);
		return 0;
	default:
		return -ENOTTY;
	}
}

/* Of anybody's dma-buf: what drivers without DMA do with those that they import. */
static long exporter_add_by_vmap(int fd)
{
	struct dma_buf *buf = dma_buf_get(fd);
	struct iosys_map map;
	size_t at;
	int error;

	if (IS_ERR(buf))
		return PTR_ERR(buf);
	error = dma_buf_vmap_unlocked(buf, &map);
	if (error)
		goto put;
	if (map.is_iomem)
		error = -EREMOTE;
	for (at = 0; !error && at < buf->size; at += PAGE_SIZE)
		*(u64 *)(map.vaddr + at) += at / PAGE_SIZE + 1;
	dma_buf_vunmap_unlocked(buf, &map);
put:
	dma_buf_put(buf);
	return error;
}

static long exporter_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	const unsigned int number = _IOC_NR(command);

	if (command != _IO('x', number))
		return -ENOTTY;
	if (number < EXPORTER_KINDS)
		return exporter_buffer_create(number);
	if (number >= 0x40 && number < 0x40 + EXPORTER_COUNTS)
		return atomic_read(&counts[number - 0x40]);
	if (command == EXPORTER_PAGES_HIDDEN)
		return IS_ENABLED(CONFIG_DMABUF_DEBUG);
	if (command == EXPORTER_VMAP)
		return exporter_add_by_vmap(argument);
	if (number >= 0x90 && IS_ENABLED(CONFIG_KASAN))
		return exporter_commit_fault(number - 0x90);
	return -ENOTTY;
}

static const struct file_operations exporter_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = exporter_ioctl,
};

static struct miscdevice exporter_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gem-locate-exporter",
	.fops = &exporter_fops,
};

static int __init exporter_init(void)
{
	int error = pci_register_driver(&exporter_driver);

	if (error)
		return error;
	error = misc_register(&exporter_misc);
	if (error)
		pci_unregister_driver(&exporter_driver);
	return error;
}

static void __exit exporter_exit(void)
{
	misc_deregister(&exporter_misc);
	pci_unregister_driver(&exporter_driver);
}

module_init(exporter_init);
module_exit(exporter_exit);
MODULE_DESCRIPTION("dma-bufs for the selftests of gem_locate");
MODULE_AUTHOR("The wlproxy developers");
MODULE_LICENSE("GPL");
COMPAT_IMPORT_DMA_BUF();
