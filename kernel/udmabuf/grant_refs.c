// SPDX-License-Identifier: GPL-2.0-only
/*
 * Grant references of an object's pages: see grant_refs.h.
 */
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <xen/page.h>

#include "grant_refs.h"

/**
 * grant_refs_most() - how many references the domain can have at all
 *
 * Return: their number, drivers of disks and networks included.
 */
u64 grant_refs_most(void)
{
	return (u64)gnttab_max_grant_frames() * (XEN_PAGE_SIZE / sizeof(struct grant_entry_v1));
}

/* Takes references one by one, where there are not as many in a row. */
static int grant_refs_gather(grant_ref_t *ref, u64 count)
{
	grant_ref_t head;
	u64 n = 0;

	while (n < count) {
		u64 part = min_t(u64, count - n, U16_MAX);

		if (gnttab_alloc_grant_references(part, &head))
			goto free;
		while (part--)
			ref[n++] = gnttab_claim_grant_reference(&head);
		cond_resched();
	}
	return 0;

free:
	while (n)
		gnttab_free_grant_reference(ref[--n]);
	return -ENOSPC;
}

/**
 * grant_refs_alloc() - take references, which give access to nothing yet
 * @refs: what to set up
 * @count: how many, not zero
 *
 * Return: 0; then access must be ended one day, and grant_refs_free() be called. -ENOSPC: the
 * table has no more. -ENOMEM.
 */
int grant_refs_alloc(struct grant_refs *refs, u64 count)
{
	grant_ref_t first, *ref;
	int error = 0;
	u64 n;

	ref = kvmalloc_array(count, sizeof(*ref), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!ref)
		return -ENOMEM;
	/* It fits: there was no array for more than 2^29. */
	if (!gnttab_alloc_grant_reference_seq(count, &first))
		for (n = 0; n < count; n++)
			ref[n] = first + n;
	else
		error = grant_refs_gather(ref, count);
	if (error) {
		kvfree(ref);
		return error;
	}
	refs->ref = ref;
	refs->count = count;
	refs->runs = 1;
	for (n = 1; n < count; n++)
		refs->runs += ref[n] != ref[n - 1] + 1;
	return 0;
}

/**
 * grant_refs_free() - forget references to which access has been ended
 * @refs: they; none is fine as well
 */
void grant_refs_free(struct grant_refs *refs)
{
	kvfree(refs->ref);
	refs->ref = NULL;
}

/**
 * grant_refs_give() - let a domain map a page, to read and write
 * @refs: the references
 * @n: whose turn it is
 * @domid: which domain
 * @page: the page; it must stay until access has been ended
 */
void grant_refs_give(struct grant_refs *refs, u64 n, domid_t domid, struct page *page)
{
	gnttab_grant_foreign_access_ref(refs->ref[n], domid, xen_page_to_gfn(page), 0);
}

/**
 * grant_refs_end() - end access where that is possible: where nothing is mapped
 * @refs: the references
 * @left: out: how many are mapped still
 *
 * Return: to how many access was ended; these are the table's again.
 */
u64 grant_refs_end(struct grant_refs *refs, u64 *left)
{
	u64 ended = 0;
	u64 n;

	*left = 0;
	for (n = 0; n < refs->count; n++) {
		if (refs->ref[n] == INVALID_GRANT_REF)
			continue;
		if (gnttab_try_end_foreign_access(refs->ref[n])) {
			refs->ref[n] = INVALID_GRANT_REF;
			ended++;
		} else {
			++*left;
		}
		cond_resched();
	}
	return ended;
}

/**
 * grant_refs_run() - a run of consecutive references
 * @refs: all of them, before any access was ended
 * @n: where it begins
 *
 * Return: the run.
 */
struct gem_grant_run grant_refs_run(struct grant_refs *refs, u64 n)
{
	struct gem_grant_run run = { .first = refs->ref[n], .count = 1 };

	while (n + run.count < refs->count &&
	       refs->ref[n + run.count] == run.first + run.count)
		run.count++;
	return run;
}
