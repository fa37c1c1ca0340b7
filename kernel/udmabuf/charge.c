// SPDX-License-Identifier: GPL-2.0-only
/*
 * What may be held through one open file, and by one process: see charge.h.
 */
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "charge.h"

/**
 * charge_client_new() - begin to count for an open file
 *
 * Return: what charge_client_put() must be called with one day, or NULL without memory.
 */
struct charge_client *charge_client_new(void)
{
	struct charge_client *client = kzalloc(sizeof(*client), GFP_KERNEL_ACCOUNT);

	if (client) {
		kref_init(&client->refs);
		spin_lock_init(&client->lock);
	}
	return client;
}

static void charge_client_free(struct kref *refs)
{
	kfree(container_of(refs, struct charge_client, refs));
}

/**
 * charge_client_put() - the file is closed
 * @client: what charge_client_new() returned
 *
 * It exists for as long as there are charges.
 */
void charge_client_put(struct charge_client *client)
{
	kref_put(&client->refs, charge_client_free);
}

static bool charge_client_add(struct charge_client *client, u64 pages, u64 max_objects,
			      u64 max_pages)
{
	bool fits;

	spin_lock(&client->lock);
	fits = client->objects < max_objects && client->pages <= max_pages &&
	       pages <= max_pages - client->pages;
	if (fits) {
		client->objects++;
		client->pages += pages;
	}
	spin_unlock(&client->lock);
	return fits;
}

static void charge_client_drop(struct charge_client *client, u64 pages)
{
	spin_lock(&client->lock);
	client->objects--;
	client->pages -= pages;
	spin_unlock(&client->lock);
}

/**
 * charge_add() - count an object against its client and the calling process
 * @charge: what to set up; its @client is set already
 * @pages: how large it is
 * @max_objects: most objects of one client, below 2^32
 * @max_mb: most MiB of one client, below 2^32
 *
 * Return: 0; then charge_drop() must follow one day. -EDQUOT: over a limit. -ENOMEM: over
 * RLIMIT_MEMLOCK.
 */
int charge_add(struct charge *charge, u64 pages, u64 max_objects, u64 max_mb)
{
	struct charge_client *client = charge->client;
	int error;

	if (!charge_client_add(client, pages, max_objects, max_mb << (20 - PAGE_SHIFT)))
		return -EDQUOT;
	/* Below 2^32 MiB, thanks to the limit: it fits on 64-bit machines. */
	error = account_locked_vm(current->mm, pages, true);
	if (error) {
		charge_client_drop(client, pages);
		return error;
	}
	kref_get(&client->refs);
	mmgrab(current->mm);
	charge->mm = current->mm;
	charge->pages = pages;
	return 0;
}

/**
 * charge_drop() - count it no more
 * @charge: what charge_add() has set up
 *
 * May sleep.
 */
void charge_drop(struct charge *charge)
{
	/* The process that was charged, even if another one closed the last copy. */
	account_locked_vm(charge->mm, charge->pages, false);
	mmdrop(charge->mm);
	charge_client_drop(charge->client, charge->pages);
	charge_client_put(charge->client);
}
