// SPDX-License-Identifier: GPL-2.0-only
/*
 * udmabuf_compat: /dev/udmabuf for kernels that were built without CONFIG_UDMABUF.
 *
 * Makes a dma-buf of ranges of memfds. The interface is that of the driver which is part
 * of Linux (include/uapi/linux/udmabuf.h), so that programs need not know which of the
 * two they use; the code is not that driver's. It loads only where that one is absent.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/iosys-map.h>
#include <linux/memfd.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/scatterlist.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/udmabuf.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "memfd_pages.h"

/* Only tests set this: to run beside the driver that is part of the kernel. */
#ifndef UDMABUF_COMPAT_NAME
#define UDMABUF_COMPAT_NAME "udmabuf"
#define UDMABUF_COMPAT_EXCLUSIVE 1
#else
#define UDMABUF_COMPAT_EXCLUSIVE 0
#endif

/* Pages that one page fault maps, if they are there: an aligned block of them. */
#define FAULT_AROUND 64

/* Copies of a list of more than INT_MAX bytes would be refused with a warning. */
#define LIST_LIMIT_MAX (INT_MAX / sizeof(struct udmabuf_create_item))
#define SIZE_LIMIT_MB_MAX (MEMFD_PAGES_MAX >> (20 - PAGE_SHIFT))

static unsigned int list_limit = 1024;
static unsigned int size_limit_mb = 64;

static int udmabuf_set_list_limit(const char *text, const struct kernel_param *param)
{
	return param_set_uint_minmax(text, param, 0, LIST_LIMIT_MAX);
}

static int udmabuf_set_size_limit(const char *text, const struct kernel_param *param)
{
	return param_set_uint_minmax(text, param, 0, SIZE_LIMIT_MB_MAX);
}

static const struct kernel_param_ops udmabuf_list_limit_ops = {
	.set = udmabuf_set_list_limit,
	.get = param_get_uint,
};

static const struct kernel_param_ops udmabuf_size_limit_ops = {
	.set = udmabuf_set_size_limit,
	.get = param_get_uint,
};

module_param_cb(list_limit, &udmabuf_list_limit_ops, &list_limit, 0644);
MODULE_PARM_DESC(list_limit, "most items of UDMABUF_CREATE_LIST (default 1024)");
module_param_cb(size_limit_mb, &udmabuf_size_limit_ops, &size_limit_mb, 0644);
MODULE_PARM_DESC(size_limit_mb, "largest dma-buf, in MiB (default 64)");

/**
 * struct udmabuf - what is behind one dma-buf
 * @pages: its pages, in order; never changes
 * @lock: protects @mappings
 * @mappings: of the devices that have it mapped (&struct udmabuf_mapping)
 */
struct udmabuf {
	struct memfd_pages pages;
	struct mutex lock;	/* protects what follows */
	struct list_head mappings;
};

/**
 * struct udmabuf_mapping - a device's view of the dma-buf
 * @table: the pages as a scatterlist, mapped for @device
 * @direction: in which the device may move data
 * @device: which
 * @link: in &udmabuf.mappings
 */
struct udmabuf_mapping {
	struct sg_table table;
	enum dma_data_direction direction;
	struct device *device;
	struct list_head link;
};

static vm_fault_t udmabuf_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct udmabuf *ubuf = vma->vm_private_data;
	unsigned long address;
	vm_fault_t result;
	pgoff_t index;

	if (vmf->pgoff >= ubuf->pages.count)
		return VM_FAULT_SIGBUS;
	result = vmf_insert_pfn(vma, vmf->address,
				page_to_pfn(ubuf->pages.page[vmf->pgoff]));
	if (result != VM_FAULT_NOPAGE)
		return result;

	/* What is read at one place will mostly be read behind it, too. */
	for (index = vmf->pgoff + 1, address = (vmf->address & PAGE_MASK) + PAGE_SIZE;
	     index % FAULT_AROUND && index < ubuf->pages.count && address < vma->vm_end;
	     index++, address += PAGE_SIZE) {
		/* An error here is not that of the page which was asked for. */
		if (vmf_insert_pfn(vma, address, page_to_pfn(ubuf->pages.page[index])) !=
		    VM_FAULT_NOPAGE)
			break;
	}
	return VM_FAULT_NOPAGE;
}

static const struct vm_operations_struct udmabuf_vm_ops = {
	.fault = udmabuf_fault,
};

static int udmabuf_mmap(struct dma_buf *buf, struct vm_area_struct *vma)
{
	/* Private pages would be copies, which is never what is meant. */
	if (!(vma->vm_flags & (VM_SHARED | VM_MAYSHARE)))
		return -EINVAL;
	vma->vm_ops = &udmabuf_vm_ops;
	vma->vm_private_data = buf->priv;
	/*
	 * Page frames, not pages: huge pages of hugetlbfs cannot be mapped piecemeal
	 * otherwise, and pages of a file should not appear in mappings it knows not
	 * of. The mapping holds the dma-buf, which holds the pages. It must not grow:
	 * only its size at mmap() has been checked against that of the dma-buf.
	 */
	compat_vm_flags_set(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	return 0;
}

static int udmabuf_vmap(struct dma_buf *buf, struct iosys_map *map)
{
	struct udmabuf *ubuf = buf->priv;
	void *address = vmap(ubuf->pages.page, ubuf->pages.count, VM_MAP, PAGE_KERNEL);

	if (!address)
		return -ENOMEM;
	iosys_map_set_vaddr(map, address);
	return 0;
}

static void udmabuf_vunmap(struct dma_buf *buf, struct iosys_map *map)
{
	vunmap(map->vaddr);
}

static struct sg_table *udmabuf_map(struct dma_buf_attachment *attachment,
				    enum dma_data_direction direction)
{
	struct udmabuf *ubuf = attachment->dmabuf->priv;
	struct udmabuf_mapping *mapping;
	int error;

	mapping = kzalloc(sizeof(*mapping), GFP_KERNEL);
	if (!mapping)
		return ERR_PTR(-ENOMEM);
	mapping->device = attachment->dev;

	/*
	 * Contiguous pages are one segment, whichever folios they are of, up to what
	 * the device can take.
	 */
	error = sg_alloc_table_from_pages_segment(&mapping->table, ubuf->pages.page,
						  ubuf->pages.count, 0,
						  (size_t)ubuf->pages.count << PAGE_SHIFT,
						  dma_get_max_seg_size(mapping->device),
						  GFP_KERNEL);
	if (error)
		goto free_mapping;
	mapping->direction = direction;
	error = dma_map_sgtable(mapping->device, &mapping->table, direction, 0);
	if (error)
		goto free_table;

	mutex_lock(&ubuf->lock);
	list_add(&mapping->link, &ubuf->mappings);
	mutex_unlock(&ubuf->lock);
	return &mapping->table;

free_table:
	sg_free_table(&mapping->table);
free_mapping:
	kfree(mapping);
	return ERR_PTR(error);
}

static void udmabuf_unmap(struct dma_buf_attachment *attachment, struct sg_table *table,
			  enum dma_data_direction direction)
{
	struct udmabuf_mapping *mapping = container_of(table, struct udmabuf_mapping, table);
	struct udmabuf *ubuf = attachment->dmabuf->priv;

	mutex_lock(&ubuf->lock);
	list_del(&mapping->link);
	mutex_unlock(&ubuf->lock);
	dma_unmap_sgtable(mapping->device, table, direction, 0);
	sg_free_table(table);
	kfree(mapping);
}

/*
 * A processor is about to read or write: it must see what the devices wrote. Whatever it is
 * about to do, each mapping is synchronized for what its device may do.
 */
static int udmabuf_begin_cpu_access(struct dma_buf *buf, enum dma_data_direction direction)
{
	struct udmabuf *ubuf = buf->priv;
	struct udmabuf_mapping *mapping;

	mutex_lock(&ubuf->lock);
	list_for_each_entry(mapping, &ubuf->mappings, link)
		dma_sync_sgtable_for_cpu(mapping->device, &mapping->table,
					 mapping->direction);
	mutex_unlock(&ubuf->lock);
	return 0;
}

/* It has done so: the devices must see what it wrote. */
static int udmabuf_end_cpu_access(struct dma_buf *buf, enum dma_data_direction direction)
{
	struct udmabuf *ubuf = buf->priv;
	struct udmabuf_mapping *mapping;

	mutex_lock(&ubuf->lock);
	list_for_each_entry(mapping, &ubuf->mappings, link)
		dma_sync_sgtable_for_device(mapping->device, &mapping->table,
					    mapping->direction);
	mutex_unlock(&ubuf->lock);
	return 0;
}

static void udmabuf_release(struct dma_buf *buf)
{
	struct udmabuf *ubuf = buf->priv;

	memfd_pages_release(&ubuf->pages);
	mutex_destroy(&ubuf->lock);
	kfree(ubuf);
}

static const struct dma_buf_ops udmabuf_ops = {
	.map_dma_buf = udmabuf_map,
	.unmap_dma_buf = udmabuf_unmap,
	.begin_cpu_access = udmabuf_begin_cpu_access,
	.end_cpu_access = udmabuf_end_cpu_access,
	.mmap = udmabuf_mmap,
	.vmap = udmabuf_vmap,
	.vunmap = udmabuf_vunmap,
	.release = udmabuf_release,
};

static int udmabuf_check_seals(struct file *file, enum memfd_pages_kind kind)
{
	const unsigned int seals = memfd_pages_seals(file, kind);

	/* Truncated pages would no longer be the file's. */
	if (!(seals & F_SEAL_SHRINK))
		return -EINVAL;
	/* The dma-buf can be written to, by processes and devices. */
	if (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EINVAL;
	return 0;
}

static int udmabuf_add_item(struct udmabuf *ubuf, const struct udmabuf_create_item *item)
{
	struct file *file = fget(item->memfd);
	enum memfd_pages_kind kind;
	int error;

	if (!file)
		return -EBADFD;
	kind = memfd_pages_kind(file);
	if (kind == MEMFD_PAGES_NONE) {
		error = -EBADFD;
		goto put_file;
	}
	/* Whoever maps the dma-buf may write: more than a read-only descriptor allows. */
	if (!(file->f_mode & FMODE_WRITE)) {
		error = -EACCES;
		goto put_file;
	}
	memfd_pages_populate(file, kind, item->offset, item->size >> PAGE_SHIFT);

	/*
	 * Seals are added with this lock held exclusively, so none can be added between
	 * the check and the moment when the pages are held. After that, F_SEAL_WRITE
	 * cannot be added at all, as it waits for page references in vain. The same
	 * lock keeps holes from being punched meanwhile. Others may hold it shared:
	 * any number of dma-bufs of one memfd can be made at once.
	 */
	inode_lock_shared(file_inode(file));
	error = udmabuf_check_seals(file, kind);
	if (!error)
		error = memfd_pages_add(&ubuf->pages, file, kind, item->offset,
					item->size >> PAGE_SHIFT);
	inode_unlock_shared(file_inode(file));

put_file:
	fput(file);
	return error;
}

/* The number of pages of all items, or a negative errno. */
static s64 udmabuf_count_pages(const struct udmabuf_create_item *items, u32 count)
{
	const u64 limit = (u64)READ_ONCE(size_limit_mb) << (20 - PAGE_SHIFT);
	u64 pages = 0;
	u32 i;

	for (i = 0; i < count; i++) {
		if (!IS_ALIGNED(items[i].offset, PAGE_SIZE) ||
		    !IS_ALIGNED(items[i].size, PAGE_SIZE) || !items[i].size)
			return -EINVAL;
		/* Both are below 2^52 + 2^32 here: the sum cannot overflow. */
		pages += items[i].size >> PAGE_SHIFT;
		if (pages > limit)
			return -EINVAL;
	}
	return pages ? pages : -EINVAL;
}

static struct dma_buf *udmabuf_export(const struct udmabuf_create_item *items, u32 count)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	s64 pages = udmabuf_count_pages(items, count);
	struct udmabuf *ubuf;
	struct dma_buf *buf;
	int error;
	u32 i;

	if (pages < 0)
		return ERR_PTR(pages);
	ubuf = kzalloc(sizeof(*ubuf), GFP_KERNEL_ACCOUNT);
	if (!ubuf)
		return ERR_PTR(-ENOMEM);
	mutex_init(&ubuf->lock);
	INIT_LIST_HEAD(&ubuf->mappings);
	error = memfd_pages_init(&ubuf->pages, pages);
	if (error)
		goto free_ubuf;
	for (i = 0; i < count; i++) {
		error = udmabuf_add_item(ubuf, &items[i]);
		if (error)
			goto release_pages;
	}

	info.ops = &udmabuf_ops;
	info.size = (size_t)pages << PAGE_SHIFT;
	info.flags = O_RDWR;
	info.priv = ubuf;
	buf = dma_buf_export(&info);
	if (IS_ERR(buf)) {
		error = PTR_ERR(buf);
		goto release_pages;
	}
	return buf;	/* and ubuf is the dma-buf's now */

release_pages:
	memfd_pages_release(&ubuf->pages);
free_ubuf:
	mutex_destroy(&ubuf->lock);
	kfree(ubuf);
	return ERR_PTR(error);
}

static long udmabuf_create(const struct udmabuf_create_item *items, u32 count, u32 flags)
{
	struct dma_buf *buf = udmabuf_export(items, count);
	int fd;

	if (IS_ERR(buf))
		return PTR_ERR(buf);
	/*
	 * Flags that mean nothing are ignored, as is the padding of items: programs
	 * that pass garbage there work with the driver that is part of Linux.
	 */
	fd = dma_buf_fd(buf, flags & UDMABUF_FLAGS_CLOEXEC ? O_CLOEXEC : 0);
	/* If that worked, another thread may have closed the descriptor already. */
	if (fd < 0)
		dma_buf_put(buf);
	return fd;
}

static long udmabuf_create_one(void __user *argument)
{
	struct udmabuf_create_item item = {};
	struct udmabuf_create head;

	if (copy_from_user(&head, argument, sizeof(head)))
		return -EFAULT;
	item.memfd = head.memfd;
	item.offset = head.offset;
	item.size = head.size;
	return udmabuf_create(&item, 1, head.flags);
}

static long udmabuf_create_list(void __user *argument)
{
	struct udmabuf_create_item *items;
	struct udmabuf_create_list head;
	long result;

	if (copy_from_user(&head, argument, sizeof(head)))
		return -EFAULT;
	/* The limit has a maximum with which the length below cannot overflow. */
	if (!head.count || head.count > READ_ONCE(list_limit))
		return -EINVAL;
	items = vmemdup_user(argument + sizeof(head), array_size(head.count, sizeof(*items)));
	if (IS_ERR(items))
		return PTR_ERR(items);
	result = udmabuf_create(items, head.count, head.flags);
	kvfree(items);
	return result;
}

static long udmabuf_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	switch (command) {
	case UDMABUF_CREATE:
		return udmabuf_create_one((void __user *)argument);
	case UDMABUF_CREATE_LIST:
		return udmabuf_create_list((void __user *)argument);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations udmabuf_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = udmabuf_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice udmabuf_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = UDMABUF_COMPAT_NAME,
	.fops = &udmabuf_fops,
};

static int __init udmabuf_init(void)
{
	int error;

	/* It cannot be a module: who was compiled for this kernel knows whether it is there. */
	if (UDMABUF_COMPAT_EXCLUSIVE && IS_ENABLED(CONFIG_UDMABUF)) {
		pr_err("this kernel has its own udmabuf driver: use that, and do not load this one\n");
		return -EEXIST;
	}
	error = memfd_pages_setup();
	if (error)
		return error;
	error = misc_register(&udmabuf_misc);
	if (error)
		pr_err("cannot register /dev/" UDMABUF_COMPAT_NAME ": %d\n", error);
	return error;
}

static void __exit udmabuf_exit(void)
{
	misc_deregister(&udmabuf_misc);
}

module_init(udmabuf_init);
module_exit(udmabuf_exit);
MODULE_DESCRIPTION("/dev/udmabuf for kernels built without it");
MODULE_AUTHOR("The wlproxy developers");
MODULE_LICENSE("GPL");
MODULE_VERSION(WLPROXY_MODULE_VERSION);
COMPAT_IMPORT_DMA_BUF();
