// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that add seals, punch holes and close descriptors while dma-bufs are made.
 * udmabuf_races [ROUNDS]
 */
#include "common.h"
#include <pthread.h>
#include <stdatomic.h>

static int device, target;
static pthread_barrier_t start, end;
static atomic_bool stop;

/* F_SEAL_WRITE between check and use. */
static unsigned int sealer_delay;

static void delay(unsigned int turns)
{
	for (volatile unsigned int turn = turns; turn; turn--)
		;
}

static void *add_seal(void *unused UNUSED)
{
	for (;;) {
		pthread_barrier_wait(&start);
		if (stop)
			return NULL;
		delay(sealer_delay);
		fcntl(target, F_ADD_SEALS, F_SEAL_WRITE);
		pthread_barrier_wait(&end);
	}
}

static void seal_while_creating(unsigned int rounds)
{
	unsigned int created = 0, sealed = 0, both = 0, other = 0;
	pthread_t thread;

	pthread_barrier_init(&start, NULL, 2);
	pthread_barrier_init(&end, NULL, 2);
	if (pthread_create(&thread, NULL, add_seal, NULL))
		bail("pthread_create");
	for (unsigned int i = 0; i < rounds; i++) {
		int buf, seals;

		target = memfd(16 * page);
		/* So that now the one comes first, and now the other. */
		sealer_delay = i % 2 ? i / 2 % 64 * 100 : 0;
		pthread_barrier_wait(&start);
		delay(i % 2 ? 0 : i / 2 % 64 * 100);
		buf = create(device, target, 0, 16 * page);
		if (buf < 0 && errno != EINVAL)
			other++;
		seals = fcntl(target, F_GET_SEALS);
		created += buf >= 0;
		sealed += !!(seals & F_SEAL_WRITE);
		both += buf >= 0 && (seals & F_SEAL_WRITE);
		if (buf >= 0)
			close(buf);
		pthread_barrier_wait(&end);
		close(target);
	}
	stop = true;
	pthread_barrier_wait(&start);
	pthread_join(thread, NULL);
	printf("# of %u: %u dma-bufs, %u sealed first\n", rounds, created, sealed);
	check(!both, "never both a dma-buf and F_SEAL_WRITE (%u times)", both);
	check(!other, "no other error");
	check(created && sealed, "each of the two came first now and then");
}

/* Holes while creating. */
static void *punch(void *unused UNUSED)
{
	while (!stop)
		fallocate(target, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 64 * page);
	return NULL;
}

static void punch_while_creating(unsigned int rounds)
{
	unsigned int failed = 0;
	pthread_t thread;

	stop = false;
	target = memfd(64 * page);
	if (pthread_create(&thread, NULL, punch, NULL))
		bail("pthread_create");
	for (unsigned int i = 0; i < rounds; i++) {
		int buf = create(device, target, 0, 64 * page);
		char *view = mmap(NULL, 64 * page, PROT_WRITE, MAP_SHARED, buf, 0);

		if (view == MAP_FAILED) {
			failed++;
		} else {
			for (size_t at = 0; at < 64 * page; at += page)
				view[at] = 1;
			munmap(view, 64 * page);
		}
		close(buf);
	}
	stop = true;
	pthread_join(thread, NULL);
	check(!failed, "holes punched meanwhile do not matter (%u failed)", failed);
	check(nothing_held(target), "no page is held");
	close(target);
}

/* Another thread closes what is not yet known. */
static void *close_next(void *next)
{
	const int fd = *(int *)next;

	while (!stop)
		close(fd);
	return NULL;
}

static void close_while_creating(unsigned int rounds)
{
	unsigned int failed = 0;
	pthread_t thread;
	int fd, next;

	stop = false;
	fd = memfd(page);
	next = dup(fd);
	close(next);
	if (pthread_create(&thread, NULL, close_next, &next))
		bail("pthread_create");
	for (unsigned int i = 0; i < rounds; i++) {
		int buf = create(device, fd, 0, page);

		failed += buf < 0;
		if (buf > next)
			close(buf);
	}
	stop = true;
	pthread_join(thread, NULL);
	close(next);
	check(!failed, "descriptors closed as soon as they exist (%u failed)", failed);
	check(nothing_held(fd), "no page is held");
	close(fd);
}

/* Many at once, of one memfd. */
static void *create_many(void *argument)
{
	long failed = 0;

	for (long i = 0; i < (long)argument; i++) {
		int buf = create(device, target, 0, 16 * page);

		failed += buf < 0;
		close(buf);
	}
	return (void *)failed;
}

static void create_at_once(unsigned int rounds)
{
	pthread_t threads[4];
	long failed = 0;
	void *result;

	target = memfd(16 * page);
	for (int i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, create_many, (void *)(long)(rounds / 4)))
			bail("pthread_create");
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		failed += (long)result;
	}
	check(!failed, "four threads make dma-bufs of one memfd (%ld failed)", failed);
	check(nothing_held(target), "no page is held");
	close(target);
}

int main(int argc, char **argv)
{
	const unsigned int rounds = argc > 1 ? atoi(argv[1]) : 5000;

	device = open_udmabuf();
	seal_while_creating(rounds);
	punch_while_creating(rounds / 4);
	close_while_creating(rounds);
	create_at_once(rounds);
	return finish();
}
