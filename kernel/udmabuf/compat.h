/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that these modules build on (6.1 and later).
 * All comparisons of kernel versions are in this file.
 */
#ifndef WLPROXY_COMPAT_H
#define WLPROXY_COMPAT_H

#include <linux/dma-buf.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0)
#error "needs Linux 6.1 or later"
#endif

/* The name space was a bare token first, and is a string now. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define COMPAT_IMPORT_DMA_BUF() MODULE_IMPORT_NS(DMA_BUF)
#else
#define COMPAT_IMPORT_DMA_BUF() MODULE_IMPORT_NS("DMA_BUF")
#endif

/*
 * A pin proper (counted as such, and moved out of ZONE_MOVABLE and CMA first) can be
 * had since 6.11, without the faults of its first release since 6.12. Before that, a
 * plain reference has to do: it stops migration and reclaim as well, but leaves the
 * page where it is.
 */
#define COMPAT_HAVE_MEMFD_PIN (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0))

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void compat_vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags |= flags;
}
#else
static inline void compat_vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	vm_flags_set(vma, flags);
}
#endif

/* There was one function first; since then these are for callers without the lock. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define dma_buf_vmap_unlocked dma_buf_vmap
#define dma_buf_vunmap_unlocked dma_buf_vunmap
#endif

#if IS_ENABLED(CONFIG_HUGETLBFS)
/* The page cache of hugetlbfs was counted in huge pages up to 6.6. */
static inline pgoff_t compat_hugetlb_index(struct hstate *hs, pgoff_t index)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	return index >> huge_page_order(hs);
#else
	return index & ~((pgoff_t)pages_per_huge_page(hs) - 1);
#endif
}
#endif

#endif /* WLPROXY_COMPAT_H */
