// SPDX-License-Identifier: GPL-2.0-only
/*
 * The pages of ranges of memfds, held until they are released: see memfd_pages.h.
 *
 * There are two ways to hold a page. Kernels that have memfd_pin_folios() (since 6.12, for
 * us) pin it, which first moves it out of movable zones; for others a reference must do. The
 * caller has the inode's lock meanwhile, so that no hole is punched between look-up and hold.
 */
#include <linux/bitmap.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>

#include "compat.h"
#include "memfd_pages.h"

/*
 * How shmem files are told from others. Neither shmem_mapping() nor shmem's operations
 * are exported to modules everywhere, but every shmem file has the same operations.
 */
static const struct address_space_operations *memfd_pages_shmem_ops;

/**
 * memfd_pages_setup() - learn how files of shmem are told from others
 *
 * To be called once, when the module is loaded, before anything else here.
 *
 * Return: 0, or a negative errno.
 */
int __init memfd_pages_setup(void)
{
	struct file *file = shmem_file_setup("wlproxy", 0, VM_NORESERVE);

	if (IS_ERR(file))
		return PTR_ERR(file);
	memfd_pages_shmem_ops = file->f_mapping->a_ops;
	fput(file);
	return 0;
}

/**
 * memfd_pages_kind() - what sort of memfd a file is
 * @file: any open file
 *
 * Return: MEMFD_PAGES_NONE if it is no memfd.
 */
enum memfd_pages_kind memfd_pages_kind(struct file *file)
{
	struct inode *inode = file_inode(file);

	if (!S_ISREG(inode->i_mode))
		return MEMFD_PAGES_NONE;
	if (file->f_mapping->a_ops == memfd_pages_shmem_ops)
		return MEMFD_PAGES_SHMEM;
	if (IS_ENABLED(CONFIG_HUGETLBFS) && inode->i_sb->s_magic == HUGETLBFS_MAGIC)
		return MEMFD_PAGES_HUGETLB;
	return MEMFD_PAGES_NONE;
}

/**
 * memfd_pages_seals() - the seals of a memfd
 * @file: the memfd
 * @kind: what memfd_pages_kind() said of it
 *
 * They are added with the inode's lock held exclusively: with it held, they do not change.
 *
 * Return: F_SEAL_*.
 */
unsigned int memfd_pages_seals(struct file *file, enum memfd_pages_kind kind)
{
	struct inode *inode = file_inode(file);

#if IS_ENABLED(CONFIG_HUGETLBFS)
	if (kind == MEMFD_PAGES_HUGETLB)
		return READ_ONCE(HUGETLBFS_I(inode)->seals);
#endif
	return READ_ONCE(SHMEM_I(inode)->seals);
}

/**
 * memfd_pages_reach() - whether a file has a range
 * @file: any open file
 * @offset: where the range begins, in bytes
 * @length: of the range, in bytes: it may go on to the end of the last page
 */
bool memfd_pages_reach(struct file *file, u64 offset, u64 length)
{
	const u64 size = i_size_read(file_inode(file));

	return offset <= size && length <= round_up(size, PAGE_SIZE) - offset;
}

/**
 * memfd_pages_init() - make room for pages
 * @pages: what to set up
 * @capacity: how many pages there shall be room for
 *
 * Return: 0; then memfd_pages_release() must follow one day. -EINVAL: none, or too many.
 * -ENOMEM.
 */
int memfd_pages_init(struct memfd_pages *pages, pgoff_t capacity)
{
	if (!capacity || capacity > MEMFD_PAGES_MAX)
		return -EINVAL;
	pages->page = kvmalloc_array(capacity, sizeof(*pages->page),
				     GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!pages->page)
		return -ENOMEM;
	pages->held = kvcalloc(BITS_TO_LONGS(capacity), sizeof(*pages->held),
			       GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!pages->held)
		goto free_page;
	pages->count = 0;
	pages->capacity = capacity;
	return 0;

free_page:
	kvfree(pages->page);
	return -ENOMEM;
}

/* Takes over one reference to, or pin of, @folio, and lists @n pages of it. */
static void memfd_pages_append(struct memfd_pages *pages, struct folio *folio,
			       unsigned long first, unsigned long n)
{
	unsigned long i;

	__set_bit(pages->count, pages->held);
	for (i = 0; i < n; i++)
		pages->page[pages->count++] = folio_page(folio, first + i);
}

static void memfd_pages_folio_release(struct folio *folio)
{
#if COMPAT_HAVE_MEMFD_PIN
	unpin_folio(folio);
#else
	folio_put(folio);
#endif
}

/**
 * memfd_pages_release() - let go of the pages, and of the room for them
 * @pages: what memfd_pages_init() has set up
 *
 * May sleep.
 */
void memfd_pages_release(struct memfd_pages *pages)
{
	unsigned long i;

	for_each_set_bit(i, pages->held, pages->count) {
		struct folio *folio = page_folio(pages->page[i]);

		/*
		 * A device, or a mapping without struct pages, may have written to
		 * it unseen. A clean page of shmem that was never written to counts
		 * as a hole: reclaim would drop it, and the contents with it.
		 */
		folio_lock(folio);
		folio_mark_dirty(folio);
		folio_unlock(folio);
		memfd_pages_folio_release(folio);
		cond_resched();
	}
	kvfree(pages->held);
	kvfree(pages->page);
}

#if IS_ENABLED(CONFIG_HUGETLBFS)
/* The huge page that has the small one with this index, with a reference, or NULL. */
static struct page *memfd_pages_get_huge(struct file *file, pgoff_t index)
{
	return find_get_page(file->f_mapping, compat_hugetlb_index(hstate_file(file), index));
}
#endif

#if COMPAT_HAVE_MEMFD_PIN

#define MEMFD_PAGES_BATCH 64

/*
 * Whether a range has all its huge pages. One that it has not would be made by
 * memfd_pin_folios(), which takes it from those reserved for others, or out of thin air:
 * 6.12 counts down reservations that nobody made, below zero.
 */
static bool memfd_pages_are_populated(struct file *file, enum memfd_pages_kind kind,
				      pgoff_t index, pgoff_t count)
{
#if IS_ENABLED(CONFIG_HUGETLBFS)
	const pgoff_t end = index + count;

	if (kind != MEMFD_PAGES_HUGETLB)
		return true;
	while (index < end) {
		const unsigned long step = pages_per_huge_page(hstate_file(file));
		struct page *page = memfd_pages_get_huge(file, index);

		if (!page)
			return false;
		put_page(page);
		index = round_down(index, step) + step;
		cond_resched();
	}
#endif
	return true;
}

static int memfd_pages_hold(struct memfd_pages *pages, struct file *file,
			    enum memfd_pages_kind kind, pgoff_t index, pgoff_t count)
{
	const loff_t size = i_size_read(file_inode(file));
	const pgoff_t end = pages->count + count;
	struct folio *batch[MEMFD_PAGES_BATCH];

	if (!memfd_pages_are_populated(file, kind, index, count))
		return -ENOMEM;
	while (pages->count < end) {
		loff_t from = (loff_t)index << PAGE_SHIFT;
		loff_t to = from + ((loff_t)(end - pages->count) << PAGE_SHIFT);
		pgoff_t skip;
		long i, n;

		if (fatal_signal_pending(current))
			return -EINTR;
		n = memfd_pin_folios(file, from, min(to, size) - 1, batch,
				     MEMFD_PAGES_BATCH, &skip);
		if (n <= 0)
			return n ? n : -EINVAL;
		skip >>= PAGE_SHIFT;
		for (i = 0; i < n; i++, skip = 0) {
			pgoff_t part = min_t(pgoff_t, folio_nr_pages(batch[i]) - skip,
					     end - pages->count);

			if (!part) {
				memfd_pages_folio_release(batch[i]);
				continue;
			}
			memfd_pages_append(pages, batch[i], skip, part);
			index += part;
		}
		cond_resched();
	}
	return 0;
}

#else /* !COMPAT_HAVE_MEMFD_PIN */

static struct page *memfd_pages_get(struct file *file, enum memfd_pages_kind kind,
				    pgoff_t index)
{
#if IS_ENABLED(CONFIG_HUGETLBFS)
	if (kind == MEMFD_PAGES_HUGETLB) {
		struct page *page = memfd_pages_get_huge(file, index);
		struct folio *folio;

		if (!page)
			return ERR_PTR(-ENOMEM);
		folio = page_folio(page);
		return folio_page(folio, index & (pages_per_huge_page(hstate_file(file)) - 1));
	}
#endif
	return shmem_read_mapping_page(file->f_mapping, index);
}

static int memfd_pages_hold(struct memfd_pages *pages, struct file *file,
			    enum memfd_pages_kind kind, pgoff_t index, pgoff_t count)
{
	struct folio *last = NULL;
	pgoff_t i;

	for (i = 0; i < count; i++) {
		struct page *page;
		struct folio *folio;

		if (fatal_signal_pending(current))
			return -EINTR;
		page = memfd_pages_get(file, kind, index + i);
		if (IS_ERR(page))
			return PTR_ERR(page);
		folio = page_folio(page);
		if (folio == last) {
			/* Held already: one reference for each folio is enough. */
			folio_put(folio);
			pages->page[pages->count++] = page;
		} else {
			memfd_pages_append(pages, folio, folio_page_idx(folio, page), 1);
		}
		last = folio;
		cond_resched();
	}
	return 0;
}

#endif /* COMPAT_HAVE_MEMFD_PIN */

/**
 * memfd_pages_populate() - make the huge pages of a range exist
 * @file: the memfd
 * @kind: what memfd_pages_kind() said of it
 * @offset: where the range begins, in bytes
 * @count: its length in pages
 *
 * shmem pages are made when they are looked up. Huge ones are made by fallocate() alone,
 * which takes the inode's lock: hence this step of its own, without the lock. It may fail,
 * and its work may be undone at once; then memfd_pages_add() says so.
 */
void memfd_pages_populate(struct file *file, enum memfd_pages_kind kind, u64 offset,
			  pgoff_t count)
{
	u64 end;

	if (kind == MEMFD_PAGES_HUGETLB && (file->f_mode & FMODE_WRITE) &&
	    !check_add_overflow(offset, (u64)count << PAGE_SHIFT, &end) &&
	    end <= i_size_read(file_inode(file)))
		vfs_fallocate(file, FALLOC_FL_KEEP_SIZE, offset, end - offset);
}

/**
 * memfd_pages_add() - hold the pages of a range, and append them
 * @pages: where to; there must be room for @count more
 * @file: the memfd
 * @kind: what memfd_pages_kind() said of it
 * @offset: where the range begins, in bytes: a multiple of the page size
 * @count: its length in pages
 *
 * Holes are filled, but for those of huge pages. To be called with the inode's lock held,
 * shared or exclusive, so that nobody punches holes meanwhile.
 *
 * Return: 0, or a negative errno, and then @pages has what was got until then: release
 * it. -EINVAL: there is no such range in the file. -ENOMEM: also, it lacks huge pages.
 */
int memfd_pages_add(struct memfd_pages *pages, struct file *file, enum memfd_pages_kind kind,
		    u64 offset, pgoff_t count)
{
	const u64 size = i_size_read(file_inode(file));
	const u64 file_pages = DIV_ROUND_UP_ULL(size, PAGE_SIZE);
	const u64 first = offset >> PAGE_SHIFT;

	if (first > file_pages || count > file_pages - first)
		return -EINVAL;
	if (WARN_ON_ONCE(count > pages->capacity - pages->count))
		return -EINVAL;
	return memfd_pages_hold(pages, file, kind, first, count);
}

/**
 * memfd_pages_hold_range() - hold the pages of one range
 * @pages: what to set up
 * @file: the memfd
 * @kind: what memfd_pages_kind() said of it
 * @offset: where the range begins, in bytes: a multiple of the page size
 * @count: its length in pages
 * @forbidden: seals that the file must not have; none is added before the pages are held
 *
 * Holes are filled, and huge pages made, if the file is open for writing.
 *
 * Return: 0; then memfd_pages_release() must follow one day. -EPERM: there is such a seal. Or
 * what memfd_pages_init() and memfd_pages_add() return.
 */
int memfd_pages_hold_range(struct memfd_pages *pages, struct file *file,
			   enum memfd_pages_kind kind, u64 offset, pgoff_t count,
			   unsigned int forbidden)
{
	struct inode *inode = file_inode(file);
	int error = memfd_pages_init(pages, count);

	if (error)
		return error;
	memfd_pages_populate(file, kind, offset, count);
	inode_lock_shared(inode);
	if (memfd_pages_seals(file, kind) & forbidden)
		error = -EPERM;
	else
		error = memfd_pages_add(pages, file, kind, offset, count);
	inode_unlock_shared(inode);
	if (error)
		memfd_pages_release(pages);
	return error;
}
