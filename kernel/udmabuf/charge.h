/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What may be held through one open file, and by one process. What gem_locate and gem_grant
 * share; it is compiled into both.
 */
#ifndef WLPROXY_CHARGE_H
#define WLPROXY_CHARGE_H

#include <linux/kref.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct mm_struct;

/**
 * struct charge_client - one open device, and what is held through it
 * @refs: one of the open file, one of each charge
 * @lock: protects the counts
 * @objects: how many are held
 * @pages: how large they are together
 */
struct charge_client {
	struct kref refs;
	spinlock_t lock;	/* protects what follows */
	u64 objects;
	u64 pages;
};

/**
 * struct charge - what one object counts for
 * @client: against which
 * @mm: whose RLIMIT_MEMLOCK is charged
 * @pages: with how many pages
 */
struct charge {
	struct charge_client *client;
	struct mm_struct *mm;
	unsigned long pages;
};

struct charge_client *charge_client_new(void);
void charge_client_put(struct charge_client *client);
int charge_add(struct charge *charge, u64 pages, u64 max_objects, u64 max_mb);
void charge_drop(struct charge *charge);

#endif /* WLPROXY_CHARGE_H */
