// SPDX-License-Identifier: GPL-2.0-only
/*
 * gem_locate: /dev/gem-locate tells where in physical memory dma-bufs and memfds are.
 *
 * For agents in virtual machines, which tell their host. The interface is described in
 * include/uapi/linux/gem_locate.h, the reasons for it in docs/kernel.md.
 *
 * It only ever locates what the caller has a file descriptor of, and keeps it in place
 * as long as the descriptor is open that it returns. It gives no access to contents.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/anon_inodes.h>
#include <linux/dma-buf.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <linux/gem_locate.h>

#include "charge.h"
#include "compat.h"
#include "dmabuf_hold.h"
#include "memfd_pages.h"

static unsigned int max_objects = 4096;
module_param(max_objects, uint, 0644);
MODULE_PARM_DESC(max_objects, "most objects located at once through one open file (default 4096)");

static unsigned int max_mb = 4096;
module_param(max_mb, uint, 0644);
MODULE_PARM_DESC(max_mb, "most MiB located at once through one open file (default 4096)");

/* The device that dma-bufs are mapped for. */
static struct platform_device *gem_locate_device;

/**
 * struct gem_locate_object - something located: what a returned descriptor stands for
 * @charge: what it counts for
 * @dmabuf: the dma-buf; its @buf is NULL if it is a memfd
 * @memfd: the pages of the memfd, else
 * @extents: where it is
 * @count: how many those are
 *
 * Nothing in it changes once the descriptor exists: it needs no lock.
 */
struct gem_locate_object {
	struct charge charge;
	struct dmabuf_hold dmabuf;
	struct memfd_pages memfd;
	struct gem_locate_extent *extents;
	u32 count;
};

static int gem_locate_object_charge(struct gem_locate_object *object, u64 pages)
{
	return charge_add(&object->charge, pages, READ_ONCE(max_objects), READ_ONCE(max_mb));
}

/* Appends bytes to the extents, if there are any yet: else only counts. */
static void gem_locate_extents_append(struct gem_locate_object *object, u64 *next, u64 gpa,
				      u64 length)
{
	const bool merge = object->count && *next == gpa;

	if (!merge)
		object->count++;
	*next = gpa + length;
	if (!object->extents)
		return;
	if (merge) {
		object->extents[object->count - 1].length += length;
	} else {
		object->extents[object->count - 1].gpa = gpa;
		object->extents[object->count - 1].length = length;
	}
}

/* Makes room for as many as have been counted, for the second pass. */
static int gem_locate_extents_alloc(struct gem_locate_object *object)
{
	object->extents = kvmalloc_array(object->count, sizeof(*object->extents),
					 GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	object->count = 0;
	return object->extents ? 0 : -ENOMEM;
}

/* Goes through the segments once; they must be all of the dma-buf, in ordinary memory. */
static int gem_locate_dmabuf_walk(struct gem_locate_object *object)
{
	u64 left = object->dmabuf.buf->size;
	struct scatterlist *sg;
	u64 next = 0;
	int i;

	object->count = 0;
	for_each_sgtable_dma_sg(object->dmabuf.table, sg, i) {
		const u64 gpa = sg_dma_address(sg);
		const u64 length = min_t(u64, sg_dma_len(sg), left);

		if (!length)
			continue;
		if (!dmabuf_hold_is_ram(gpa, length))
			return -EREMOTE;
		/*
		 * The address must be that of the page itself, not of a copy (swiotlb)
		 * nor one that only an IOMMU understands. With CONFIG_DMABUF_DEBUG the
		 * pages are hidden from importers, and it is for the check of
		 * dmabuf_hold_map() alone.
		 */
		if (!IS_ENABLED(CONFIG_DMABUF_DEBUG) && sg_page(sg) && gpa != sg_phys(sg))
			return -EXDEV;
		gem_locate_extents_append(object, &next, gpa, length);
		left -= length;
	}
	return left ? -EIO : 0;
}

static int gem_locate_dmabuf_hold(struct gem_locate_object *object, int fd)
{
	struct dma_buf *buf = dma_buf_get(fd);
	int error;

	if (IS_ERR(buf))
		return PTR_ERR(buf);
	object->dmabuf.buf = buf;
	error = gem_locate_object_charge(object, DIV_ROUND_UP_ULL(buf->size, PAGE_SIZE));
	if (error)
		goto put;
	error = dmabuf_hold_map(&object->dmabuf, &gem_locate_device->dev);
	if (error)
		goto uncharge;
	return 0;

uncharge:
	charge_drop(&object->charge);
put:
	dma_buf_put(buf);
	return error;
}

static void gem_locate_dmabuf_drop(struct gem_locate_object *object)
{
	dmabuf_hold_unmap(&object->dmabuf);
	charge_drop(&object->charge);
	dma_buf_put(object->dmabuf.buf);
}

static int gem_locate_dmabuf_locate(struct gem_locate_object *object,
				    struct gem_locate_dmabuf *request)
{
	int error;

	if (request->flags || request->size || request->count || request->reserved)
		return -EINVAL;
	error = gem_locate_dmabuf_hold(object, request->fd);
	if (error)
		return error;
	error = gem_locate_dmabuf_walk(object);
	if (error)
		goto drop;
	error = gem_locate_extents_alloc(object);
	if (error)
		goto drop;
	error = gem_locate_dmabuf_walk(object);
	if (error)
		goto free_extents;
	request->size = object->dmabuf.buf->size;
	request->count = object->count;
	return 0;

free_extents:
	kvfree(object->extents);
drop:
	gem_locate_dmabuf_drop(object);
	return error;
}

/* Goes through the pages once. */
static void gem_locate_memfd_walk(struct gem_locate_object *object)
{
	u64 next = 0;
	pgoff_t i;

	object->count = 0;
	for (i = 0; i < object->memfd.count; i++)
		gem_locate_extents_append(object, &next, page_to_phys(object->memfd.page[i]),
					  PAGE_SIZE);
}

static int gem_locate_memfd_hold(struct gem_locate_object *object, struct file *file, u64 offset,
				 u64 length)
{
	const enum memfd_pages_kind kind = memfd_pages_kind(file);
	int error;

	if (!(file->f_mode & FMODE_READ))
		return -EACCES;
	if (kind == MEMFD_PAGES_NONE)
		return -EBADFD;
	/* Before the charge, so that nonsense is not answered with "too much". */
	if (!memfd_pages_reach(file, offset, length))
		return -EINVAL;
	error = gem_locate_object_charge(object, length >> PAGE_SHIFT);
	if (error)
		return error;
	/* No seal is asked for: whoever truncates the file loses pages, not we. */
	error = memfd_pages_hold_range(&object->memfd, file, kind, offset, length >> PAGE_SHIFT,
				       0);
	if (error)
		charge_drop(&object->charge);
	return error;
}

static void gem_locate_memfd_drop(struct gem_locate_object *object)
{
	memfd_pages_release(&object->memfd);
	charge_drop(&object->charge);
}

static int gem_locate_memfd_locate(struct gem_locate_object *object,
				   struct gem_locate_memfd *request)
{
	struct file *file;
	int error;

	if (request->flags || request->count || request->reserved)
		return -EINVAL;
	if (!IS_ALIGNED(request->offset, PAGE_SIZE) ||
	    !IS_ALIGNED(request->length, PAGE_SIZE) || !request->length)
		return -EINVAL;
	file = fget(request->fd);
	if (!file)
		return -EBADF;
	error = gem_locate_memfd_hold(object, file, request->offset, request->length);
	fput(file);
	if (error)
		return error;
	gem_locate_memfd_walk(object);
	error = gem_locate_extents_alloc(object);
	if (error)
		goto drop;
	gem_locate_memfd_walk(object);
	request->count = object->count;
	return 0;

drop:
	gem_locate_memfd_drop(object);
	return error;
}

static struct gem_locate_object *gem_locate_object_new(struct charge_client *client)
{
	struct gem_locate_object *object = kzalloc(sizeof(*object), GFP_KERNEL_ACCOUNT);

	if (object)
		object->charge.client = client;
	return object;
}

/* Undoes what one of the two functions that locate has done. */
static void gem_locate_object_drop(struct gem_locate_object *object)
{
	kvfree(object->extents);
	if (object->dmabuf.buf)
		gem_locate_dmabuf_drop(object);
	else
		gem_locate_memfd_drop(object);
}

static int gem_locate_object_release(struct inode *inode, struct file *file)
{
	gem_locate_object_drop(file->private_data);
	kfree(file->private_data);
	return 0;
}

static long gem_locate_object_extents(struct gem_locate_object *object, void __user *argument)
{
	struct gem_locate_extents list;
	u32 n;

	if (copy_from_user(&list, argument, sizeof(list)))
		return -EFAULT;
	if (list.reserved)
		return -EINVAL;
	n = min(list.count, object->count);
	if (copy_to_user(u64_to_user_ptr(list.extents), object->extents,
			 array_size(n, sizeof(*object->extents))))
		return -EFAULT;
	list.count = object->count;
	if (copy_to_user(argument, &list, sizeof(list)))
		return -EFAULT;
	return 0;
}

static long gem_locate_object_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	if (command != GEM_LOCATE_EXTENTS)
		return -ENOTTY;
	return gem_locate_object_extents(file->private_data, (void __user *)argument);
}

/* Without the addresses: other processes of the user may read it. */
static void gem_locate_object_show_fdinfo(struct seq_file *out, struct file *file)
{
	struct gem_locate_object *object = file->private_data;

	seq_printf(out, "kind:\t%s\n", object->dmabuf.buf ? "dma-buf" : "memfd");
	seq_printf(out, "bytes:\t%llu\n", (u64)object->charge.pages << PAGE_SHIFT);
	seq_printf(out, "extents:\t%u\n", object->count);
}

static const struct file_operations gem_locate_object_fops = {
	.owner = THIS_MODULE,
	.release = gem_locate_object_release,
	.unlocked_ioctl = gem_locate_object_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = gem_locate_object_show_fdinfo,
};

union gem_locate_request {
	struct gem_locate_dmabuf dmabuf;
	struct gem_locate_memfd memfd;
};

static long gem_locate_object_create(struct charge_client *client, unsigned int command,
				     void __user *argument)
{
	struct gem_locate_object *object;
	union gem_locate_request request;
	struct file *file;
	int fd, error;

	if (copy_from_user(&request, argument, _IOC_SIZE(command)))
		return -EFAULT;
	object = gem_locate_object_new(client);
	if (!object)
		return -ENOMEM;
	error = command == GEM_LOCATE_DMABUF ?
		gem_locate_dmabuf_locate(object, &request.dmabuf) :
		gem_locate_memfd_locate(object, &request.memfd);
	if (error)
		goto free_object;
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		error = fd;
		goto drop_object;
	}
	file = anon_inode_getfile("[gem-locate]", &gem_locate_object_fops, object, O_RDWR);
	if (IS_ERR(file)) {
		error = PTR_ERR(file);
		goto put_fd;
	}
	if (copy_to_user(argument, &request, _IOC_SIZE(command))) {
		error = -EFAULT;
		goto put_file;
	}
	fd_install(fd, file);
	return fd;

put_file:
	/* The object is the file's, and goes with it. */
	fput(file);
	put_unused_fd(fd);
	return error;
put_fd:
	put_unused_fd(fd);
drop_object:
	gem_locate_object_drop(object);
free_object:
	kfree(object);
	return error;
}

static long gem_locate_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	const struct gem_locate_version version = { .version = GEM_LOCATE_ABI_VERSION };

	switch (command) {
	case GEM_LOCATE_VERSION:
		if (copy_to_user((void __user *)argument, &version, sizeof(version)))
			return -EFAULT;
		return 0;
	case GEM_LOCATE_DMABUF:
	case GEM_LOCATE_MEMFD:
		return gem_locate_object_create(file->private_data, command,
				     (void __user *)argument);
	default:
		return -ENOTTY;
	}
}

static int gem_locate_open(struct inode *inode, struct file *file)
{
	file->private_data = charge_client_new();
	return file->private_data ? 0 : -ENOMEM;
}

static int gem_locate_release(struct inode *inode, struct file *file)
{
	charge_client_put(file->private_data);
	return 0;
}

static const struct file_operations gem_locate_fops = {
	.owner = THIS_MODULE,
	.open = gem_locate_open,
	.release = gem_locate_release,
	.unlocked_ioctl = gem_locate_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice gem_locate_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gem-locate",
	.fops = &gem_locate_fops,
};

static int __init gem_locate_init(void)
{
	int error = memfd_pages_setup();

	if (error)
		return error;
	gem_locate_device = dmabuf_hold_device("gem-locate");
	if (IS_ERR(gem_locate_device))
		return PTR_ERR(gem_locate_device);
	error = misc_register(&gem_locate_misc);
	if (error)
		platform_device_unregister(gem_locate_device);
	return error;
}

static void __exit gem_locate_exit(void)
{
	misc_deregister(&gem_locate_misc);
	platform_device_unregister(gem_locate_device);
}

module_init(gem_locate_init);
module_exit(gem_locate_exit);
MODULE_DESCRIPTION("Physical addresses of dma-bufs and memfds, for agents in virtual machines");
MODULE_AUTHOR("The wlproxy developers");
MODULE_LICENSE("GPL");
MODULE_VERSION(WLPROXY_MODULE_VERSION);
COMPAT_IMPORT_DMA_BUF();
