// SPDX-License-Identifier: GPL-2.0-only
/*
 * gem_grant: /dev/gem-grant gives the pages of dma-bufs and memfds to the backend domain.
 *
 * For agents in Xen's domains. The interface is described in include/uapi/linux/gem_grant.h,
 * the reasons for it in docs/kernel.md.
 *
 * It only ever grants what the caller has a file descriptor of, and may write to; and to one
 * domain, which root has named. What has been mapped over there cannot be taken back, so
 * that a page is let go only once it is mapped no more: see gem_grant_object_close().
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/anon_inodes.h>
#include <linux/dma-buf.h>
#include <linux/fcntl.h>
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
#include <linux/workqueue.h>
#include <xen/grant_table.h>
#include <xen/interface/xen.h>
#include <xen/page.h>
#include <xen/xen.h>

#include <linux/gem_grant.h>

#include "charge.h"
#include "compat.h"
#include "dmabuf_hold.h"
#include "grant_refs.h"
#include "memfd_pages.h"

static unsigned int backend;
module_param(backend, uint, 0444);
MODULE_PARM_DESC(backend, "number of the domain that pages are granted to (default 0)");

static unsigned int max_objects = 4096;
module_param(max_objects, uint, 0644);
MODULE_PARM_DESC(max_objects, "most objects granted at once through one open file (default 4096)");

static unsigned int max_mb = 4096;
module_param(max_mb, uint, 0644);
MODULE_PARM_DESC(max_mb, "most MiB granted at once through one open file (default 4096)");

static unsigned int max_refs;
module_param(max_refs, uint, 0644);
MODULE_PARM_DESC(max_refs, "most pages granted at once by everybody (default 0: 7/8 of the grant table)");

/* The device that dma-bufs are mapped for. */
static struct platform_device *gem_grant_device;

/* Where access is ended that could not be at once. A queue of its own, to be flushed. */
static struct workqueue_struct *gem_grant_queue;

/* Between two looks whether pages are still mapped: longer and longer, from here to there. */
#define GEM_GRANT_FIRST_LOOK (HZ / 8)
#define GEM_GRANT_LAST_LOOK (2 * HZ)

/* How many runs are told at once. */
#define GEM_GRANT_BATCH 32

/* What GEM_GRANT_COUNTS tells. */
static DEFINE_SPINLOCK(gem_grant_counts_lock);
static struct gem_grant_counts gem_grant_counts;

/**
 * struct gem_grant_object - something granted: what a returned descriptor stands for
 * @charge: what it counts for: all of a dma-buf, which is kept as a whole
 * @pages: how many pages of it are granted
 * @offset: where these begin, in bytes
 * @dmabuf: the dma-buf; its @buf is NULL if it is a memfd
 * @memfd: the pages of the memfd, else
 * @refs: the references of the pages
 * @ending: ends access to what could not be ended at once
 * @delay: until @ending looks again
 *
 * Nothing in it changes while the descriptor exists; after that, it is @ending's.
 */
struct gem_grant_object {
	struct charge charge;
	u64 pages;
	u64 offset;
	struct dmabuf_hold dmabuf;
	struct memfd_pages memfd;
	struct grant_refs refs;
	struct delayed_work ending;
	unsigned long delay;
};

/* Most refs that everybody may have together: drivers of disks and networks need some. */
static u64 gem_grant_ref_limit(void)
{
	const u64 limit = READ_ONCE(max_refs);

	return limit ? limit : grant_refs_most() / 8 * 7;
}

static bool gem_grant_refs_charge(u64 pages)
{
	const u64 limit = gem_grant_ref_limit();
	bool fits;

	spin_lock(&gem_grant_counts_lock);
	fits = gem_grant_counts.refs <= limit && pages <= limit - gem_grant_counts.refs;
	if (fits) {
		gem_grant_counts.objects++;
		gem_grant_counts.refs += pages;
	}
	spin_unlock(&gem_grant_counts_lock);
	return fits;
}

/* What access was ended to, or what never was granted. */
static void gem_grant_refs_uncharge(u64 refs, u64 closed_refs, u64 objects, u64 closed_objects)
{
	spin_lock(&gem_grant_counts_lock);
	gem_grant_counts.refs -= refs;
	gem_grant_counts.closed_refs -= closed_refs;
	gem_grant_counts.objects -= objects;
	gem_grant_counts.closed_objects -= closed_objects;
	spin_unlock(&gem_grant_counts_lock);
}

/* Counts @held more against the client and the process; nothing is held yet. */
static int gem_grant_object_charge(struct gem_grant_object *object, u64 held)
{
	int error = charge_add(&object->charge, held, READ_ONCE(max_objects), READ_ONCE(max_mb));

	if (error)
		return error;
	if (!gem_grant_refs_charge(object->pages)) {
		charge_drop(&object->charge);
		return -EDQUOT;
	}
	return 0;
}

/* Pages of another domain, mapped here, are not ours to give. */
static bool gem_grant_is_foreign(struct page *page)
{
#ifdef CONFIG_XEN_PV
	/* Elsewhere they are not in what the firmware called memory. */
	return xen_pv_domain() && (__pfn_to_mfn(page_to_pfn(page)) & FOREIGN_FRAME_BIT);
#else
	return false;
#endif
}

/*
 * Goes through the pages of a dma-buf, and grants those of the range if there are refs.
 *
 * By the segments' own pages: what a device would be told may be, in a PV domain, the
 * machine's address, which is nobody's page number here.
 */
static int gem_grant_dmabuf_walk(struct gem_grant_object *object)
{
	u64 skip = object->offset >> PAGE_SHIFT;
	struct scatterlist *sg;
	u64 n = 0;
	int i;

	/* The pages are hidden from importers then. */
	if (IS_ENABLED(CONFIG_DMABUF_DEBUG))
		return -EOPNOTSUPP;
	for_each_sgtable_sg(object->dmabuf.table, sg, i) {
		struct page *page = sg_page(sg);
		const u64 count = sg->length >> PAGE_SHIFT;
		u64 in;

		if (!page || !sg->length || !IS_ALIGNED(sg->offset | sg->length, PAGE_SIZE))
			return -EREMOTE;
		if (!dmabuf_hold_is_ram(sg_phys(sg), sg->length))
			return -EREMOTE;
		page += sg->offset >> PAGE_SHIFT;
		in = min(skip, count);
		skip -= in;
		for (; in < count && n < object->pages; in++, n++) {
			if (gem_grant_is_foreign(page + in))
				return -EREMOTE;
			if (object->refs.ref)
				grant_refs_give(&object->refs, n, backend, page + in);
		}
		cond_resched();
	}
	return n == object->pages ? 0 : -EIO;
}

static int gem_grant_dmabuf_hold(struct gem_grant_object *object, u64 length)
{
	const u64 size = object->dmabuf.buf->size;
	int error;

	if (object->offset > size || length > round_up(size, PAGE_SIZE) - object->offset)
		return -EINVAL;
	error = gem_grant_object_charge(object, DIV_ROUND_UP_ULL(size, PAGE_SIZE));
	if (error)
		return error;
	error = dmabuf_hold_map(&object->dmabuf, &gem_grant_device->dev);
	if (error)
		goto uncharge;
	error = gem_grant_dmabuf_walk(object);
	if (error)
		goto unmap;
	return 0;

unmap:
	dmabuf_hold_unmap(&object->dmabuf);
uncharge:
	gem_grant_refs_uncharge(object->pages, 0, 1, 0);
	charge_drop(&object->charge);
	return error;
}

static int gem_grant_memfd_hold(struct gem_grant_object *object, struct file *file, u64 length)
{
	const enum memfd_pages_kind kind = memfd_pages_kind(file);
	int error;

	if (kind == MEMFD_PAGES_NONE)
		return -EBADFD;
	if (!(file->f_mode & FMODE_READ) || !(file->f_mode & FMODE_WRITE))
		return -EACCES;
	/* Before the charge, so that nonsense is not answered with "too much". */
	if (!memfd_pages_reach(file, object->offset, length))
		return -EINVAL;
	error = gem_grant_object_charge(object, object->pages);
	if (error)
		return error;
	/* The other domain can write. */
	error = memfd_pages_hold_range(&object->memfd, file, kind, object->offset, object->pages,
				       F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
	if (error) {
		gem_grant_refs_uncharge(object->pages, 0, 1, 0);
		charge_drop(&object->charge);
	}
	return error;
}

static int gem_grant_object_hold(struct gem_grant_object *object, int fd, u64 length)
{
	struct dma_buf *buf = dma_buf_get(fd);
	struct file *file;
	int error;

	if (!IS_ERR(buf)) {
		object->dmabuf.buf = buf;
		error = gem_grant_dmabuf_hold(object, length);
		if (error)
			dma_buf_put(buf);
		return error;
	}
	file = fget(fd);
	if (!file)
		return -EBADF;
	error = gem_grant_memfd_hold(object, file, length);
	fput(file);
	return error;
}

/* Lets the pages go. Nobody may have them mapped any more. */
static void gem_grant_object_drop(struct gem_grant_object *object)
{
	if (object->dmabuf.buf) {
		dmabuf_hold_unmap(&object->dmabuf);
		dma_buf_put(object->dmabuf.buf);
	} else {
		memfd_pages_release(&object->memfd);
	}
	charge_drop(&object->charge);
}

static int gem_grant_object_grant(struct gem_grant_object *object)
{
	u64 n;

	/* The same as at the first time, since nothing can move: but not by our word. */
	if (object->dmabuf.buf)
		return gem_grant_dmabuf_walk(object);
	for (n = 0; n < object->pages; n++)
		grant_refs_give(&object->refs, n, backend, object->memfd.page[n]);
	return 0;
}

static struct gem_grant_object *gem_grant_object_new(struct charge_client *client)
{
	struct gem_grant_object *object = kzalloc(sizeof(*object), GFP_KERNEL_ACCOUNT);

	if (object)
		object->charge.client = client;
	return object;
}

static void gem_grant_object_free(struct gem_grant_object *object)
{
	grant_refs_free(&object->refs);
	kfree(object);
}

/* Ends access where that is possible. Returns whether it was, everywhere. */
static bool gem_grant_object_end(struct gem_grant_object *object)
{
	u64 left;
	const u64 ended = grant_refs_end(&object->refs, &left);

	gem_grant_refs_uncharge(ended, ended, 0, 0);
	return !left;
}

static void gem_grant_object_finish(struct gem_grant_object *object)
{
	gem_grant_object_drop(object);
	gem_grant_refs_uncharge(0, 0, 1, 1);
	gem_grant_object_free(object);
}

static void gem_grant_object_look_again(struct gem_grant_object *object)
{
	queue_delayed_work(gem_grant_queue, &object->ending, object->delay);
	object->delay = min_t(unsigned long, 2 * object->delay, GEM_GRANT_LAST_LOOK);
}

static void gem_grant_ending(struct work_struct *work)
{
	struct gem_grant_object *object =
		container_of(to_delayed_work(work), struct gem_grant_object, ending);

	if (!gem_grant_object_end(object)) {
		gem_grant_object_look_again(object);
		return;
	}
	gem_grant_object_finish(object);
	/* The module waits for this function in gem_grant_exit(). */
	module_put(THIS_MODULE);
}

/*
 * Takes back what was granted: at once what the other domain has not mapped. As long as it has
 * any of it mapped, all of the object is kept, and the module with it. Pages that went back to
 * the kernel earlier would get other contents while they are shown over there.
 */
static void gem_grant_object_close(struct gem_grant_object *object)
{
	spin_lock(&gem_grant_counts_lock);
	gem_grant_counts.closed_objects++;
	gem_grant_counts.closed_refs += object->pages;
	spin_unlock(&gem_grant_counts_lock);
	if (gem_grant_object_end(object)) {
		gem_grant_object_finish(object);
		return;
	}
	__module_get(THIS_MODULE);
	INIT_DELAYED_WORK(&object->ending, gem_grant_ending);
	object->delay = GEM_GRANT_FIRST_LOOK;
	gem_grant_object_look_again(object);
}

static int gem_grant_object_release(struct inode *inode, struct file *file)
{
	gem_grant_object_close(file->private_data);
	return 0;
}

static long gem_grant_object_copy_runs(struct gem_grant_object *object,
				       struct gem_grant_run __user *out, u32 count)
{
	struct gem_grant_run batch[GEM_GRANT_BATCH];
	u64 n = 0;

	while (count) {
		const u32 part = min_t(u32, count, GEM_GRANT_BATCH);
		u32 i;

		for (i = 0; i < part; i++) {
			batch[i] = grant_refs_run(&object->refs, n);
			n += batch[i].count;
		}
		if (copy_to_user(out, batch, array_size(part, sizeof(*batch))))
			return -EFAULT;
		out += part;
		count -= part;
		cond_resched();
	}
	return 0;
}

static long gem_grant_object_list(struct gem_grant_object *object, void __user *argument)
{
	struct gem_grant_runs list;

	if (copy_from_user(&list, argument, sizeof(list)))
		return -EFAULT;
	if (list.reserved)
		return -EINVAL;
	if (gem_grant_object_copy_runs(object, u64_to_user_ptr(list.runs),
				       min(list.count, object->refs.runs)))
		return -EFAULT;
	list.count = object->refs.runs;
	if (copy_to_user(argument, &list, sizeof(list)))
		return -EFAULT;
	return 0;
}

static long gem_grant_object_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	if (command != GEM_GRANT_RUNS)
		return -ENOTTY;
	return gem_grant_object_list(file->private_data, (void __user *)argument);
}

static void gem_grant_object_show_fdinfo(struct seq_file *out, struct file *file)
{
	struct gem_grant_object *object = file->private_data;

	seq_printf(out, "kind:\t%s\n", object->dmabuf.buf ? "dma-buf" : "memfd");
	seq_printf(out, "bytes:\t%llu\n", object->pages << PAGE_SHIFT);
	seq_printf(out, "runs:\t%u\n", object->refs.runs);
}

static const struct file_operations gem_grant_object_fops = {
	.owner = THIS_MODULE,
	.release = gem_grant_object_release,
	.unlocked_ioctl = gem_grant_object_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = gem_grant_object_show_fdinfo,
};

/* On success the object can be closed; else all that there is to do is to free it. */
static int gem_grant_object_setup(struct gem_grant_object *object, struct gem_grant_pages *request)
{
	int error;

	if (request->flags || request->count || request->reserved)
		return -EINVAL;
	if (!IS_ALIGNED(request->offset, PAGE_SIZE) ||
	    !IS_ALIGNED(request->length, PAGE_SIZE) || !request->length)
		return -EINVAL;
	object->pages = request->length >> PAGE_SHIFT;
	object->offset = request->offset;
	error = gem_grant_object_hold(object, request->fd, request->length);
	if (error)
		return error;
	error = grant_refs_alloc(&object->refs, object->pages);
	if (error) {
		gem_grant_object_drop(object);
		gem_grant_refs_uncharge(object->pages, 0, 1, 0);
		return error;
	}
	request->count = object->refs.runs;
	return 0;
}

static long gem_grant_object_create(struct charge_client *client, void __user *argument)
{
	struct gem_grant_object *object;
	struct gem_grant_pages request;
	struct file *file;
	int fd, error;

	if (copy_from_user(&request, argument, sizeof(request)))
		return -EFAULT;
	object = gem_grant_object_new(client);
	if (!object)
		return -ENOMEM;
	error = gem_grant_object_setup(object, &request);
	if (error) {
		gem_grant_object_free(object);
		return error;
	}
	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0) {
		error = fd;
		goto close_object;
	}
	file = anon_inode_getfile("[gem-grant]", &gem_grant_object_fops, object, O_RDWR);
	if (IS_ERR(file)) {
		error = PTR_ERR(file);
		goto put_fd;
	}
	/* From here on the object is the file's, and goes with it. */
	error = gem_grant_object_grant(object);
	if (!error && copy_to_user(argument, &request, sizeof(request)))
		error = -EFAULT;
	if (error) {
		fput(file);
		put_unused_fd(fd);
		return error;
	}
	fd_install(fd, file);
	return fd;

put_fd:
	put_unused_fd(fd);
close_object:
	gem_grant_object_close(object);
	return error;
}

static long gem_grant_tell_info(void __user *argument)
{
	const struct gem_grant_info info = {
		.version = GEM_GRANT_ABI_VERSION,
		.domid = backend,
	};

	return copy_to_user(argument, &info, sizeof(info)) ? -EFAULT : 0;
}

static long gem_grant_tell_counts(void __user *argument)
{
	struct gem_grant_counts counts;

	spin_lock(&gem_grant_counts_lock);
	counts = gem_grant_counts;
	spin_unlock(&gem_grant_counts_lock);
	return copy_to_user(argument, &counts, sizeof(counts)) ? -EFAULT : 0;
}

static long gem_grant_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	void __user *where = (void __user *)argument;

	switch (command) {
	case GEM_GRANT_INFO:
		return gem_grant_tell_info(where);
	case GEM_GRANT_COUNTS:
		return gem_grant_tell_counts(where);
	case GEM_GRANT_PAGES:
		return gem_grant_object_create(file->private_data, where);
	default:
		return -ENOTTY;
	}
}

static int gem_grant_open(struct inode *inode, struct file *file)
{
	file->private_data = charge_client_new();
	return file->private_data ? 0 : -ENOMEM;
}

static int gem_grant_release(struct inode *inode, struct file *file)
{
	charge_client_put(file->private_data);
	return 0;
}

static const struct file_operations gem_grant_fops = {
	.owner = THIS_MODULE,
	.open = gem_grant_open,
	.release = gem_grant_release,
	.unlocked_ioctl = gem_grant_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice gem_grant_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gem-grant",
	.fops = &gem_grant_fops,
};

static int __init gem_grant_check(void)
{
	if (!xen_domain()) {
		pr_err("this machine is no domain of Xen's: gem_locate is for all others\n");
		return -ENODEV;
	}
	/* Refs are for 4 KiB each, whatever the size of a page. */
	if (PAGE_SIZE != XEN_PAGE_SIZE)
		return -ENODEV;
	if (backend >= DOMID_FIRST_RESERVED) {
		pr_err("backend=%u is not the number of a domain\n", backend);
		return -EINVAL;
	}
	if (xen_initial_domain() && !backend) {
		pr_err("this is domain 0, which would grant its pages to itself\n");
		return -ENODEV;
	}
	return 0;
}

static int __init gem_grant_init(void)
{
	int error = gem_grant_check();

	if (error)
		return error;
	error = memfd_pages_setup();
	if (error)
		return error;
	gem_grant_queue = alloc_workqueue("gem-grant", WQ_UNBOUND, 0);
	if (!gem_grant_queue)
		return -ENOMEM;
	gem_grant_device = dmabuf_hold_device("gem-grant");
	if (IS_ERR(gem_grant_device)) {
		error = PTR_ERR(gem_grant_device);
		goto destroy_queue;
	}
	error = misc_register(&gem_grant_misc);
	if (error)
		goto unregister;
	return 0;

unregister:
	platform_device_unregister(gem_grant_device);
destroy_queue:
	destroy_workqueue(gem_grant_queue);
	return error;
}

static void __exit gem_grant_exit(void)
{
	misc_deregister(&gem_grant_misc);
	/* Nothing is granted any more, but the last to end access may not have returned. */
	destroy_workqueue(gem_grant_queue);
	platform_device_unregister(gem_grant_device);
}

module_init(gem_grant_init);
module_exit(gem_grant_exit);
MODULE_DESCRIPTION("Xen grants of the pages of dma-bufs and memfds, for agents in domains");
MODULE_AUTHOR("The wlproxy developers");
MODULE_LICENSE("GPL");
MODULE_VERSION(WLPROXY_MODULE_VERSION);
COMPAT_IMPORT_DMA_BUF();
