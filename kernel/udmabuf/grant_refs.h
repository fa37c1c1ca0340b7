/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Grant references of an object's pages, from their allocation to the end of access. A part of
 * gem_grant.
 */
#ifndef WLPROXY_GRANT_REFS_H
#define WLPROXY_GRANT_REFS_H

#include <linux/types.h>
#include <xen/grant_table.h>

#include <linux/gem_grant.h>

struct page;

/**
 * struct grant_refs - the references of some pages
 * @ref: of each page, or INVALID_GRANT_REF once access to it has been ended; NULL: none yet
 * @count: how many pages
 * @runs: how many runs the references are
 */
struct grant_refs {
	grant_ref_t *ref;
	u64 count;
	u32 runs;
};

u64 grant_refs_most(void);
int grant_refs_alloc(struct grant_refs *refs, u64 count);
void grant_refs_free(struct grant_refs *refs);
void grant_refs_give(struct grant_refs *refs, u64 n, domid_t domid, struct page *page);
u64 grant_refs_end(struct grant_refs *refs, u64 *left);
struct gem_grant_run grant_refs_run(struct grant_refs *refs, u64 n);

#endif /* WLPROXY_GRANT_REFS_H */
