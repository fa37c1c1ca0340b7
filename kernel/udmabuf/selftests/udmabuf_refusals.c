// SPDX-License-Identifier: GPL-2.0-only
/* Everything that /dev/udmabuf refuses, and with which errno; and that it keeps nothing. */
#include "common.h"

static void seals(int device)
{
	static const struct {
		int seals;
		int error;
		const char *what;
	} cases[] = {
		{ 0, EINVAL, "no seals" },
		{ F_SEAL_GROW, EINVAL, "not sealed against shrinking" },
		{ F_SEAL_SHRINK | F_SEAL_WRITE, EINVAL, "sealed against writing" },
		{ F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, EINVAL, "against future writing" },
		{ F_SEAL_SHRINK, 0, "sealed against shrinking" },
		{ F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, 0, "and growing, and sealing" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int fd = memfd_with(4 * page, 0, cases[i].seals);
		int buf = create(device, fd, 0, page);

		if (cases[i].error)
			refused(buf, cases[i].error, cases[i].what);
		else
			close(accepted(buf, cases[i].what));
		close(fd);
	}
}

static void ranges(int device, int fd)
{
	refused(create(device, fd, 0, 0), EINVAL, "size 0");
	refused(create(device, fd, 0, page - 1), EINVAL, "size not of whole pages");
	refused(create(device, fd, 1, page), EINVAL, "offset not of whole pages");
	refused(create(device, fd, page / 2, page), EINVAL, "offset of half a page");
	refused(create(device, fd, 0, 5 * page), EINVAL, "larger than the file");
	refused(create(device, fd, 4 * page, page), EINVAL, "behind the file");
	refused(create(device, fd, 3 * page, 2 * page), EINVAL, "across the end of the file");
	refused(create(device, fd, 1ULL << 40, page), EINVAL, "far behind the file");
	refused(create(device, fd, ~(uint64_t)page + 1, page), EINVAL, "offset -1 page");
	refused(create(device, fd, page, ~(uint64_t)page + 1), EINVAL, "size -1 page");
	refused(create(device, fd, 1ULL << 63, 1ULL << 63), EINVAL, "offset and size 2^63");
	close(accepted(create(device, fd, 3 * page, page), "the last page"));
}

static void files(int device)
{
	int pipes[2], fd;

	refused(create(device, -1, 0, page), EBADFD, "descriptor -1");
	refused(create(device, 1 << 20, 0, page), EBADFD, "a descriptor that is not open");
	refused(create(device, device, 0, page), EBADFD, "the device itself");
	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	refused(create(device, fd, 0, page), EBADFD, "/dev/zero");
	close(fd);
	fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	refused(create(device, fd, 0, page), EBADFD, "a file of another file system");
	close(fd);
	fd = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	refused(create(device, fd, 0, page), EBADFD, "a directory");
	close(fd);
	if (pipe(pipes))
		bail("pipe");
	refused(create(device, pipes[0], 0, page), EBADFD, "a pipe");
	close(pipes[0]);
	close(pipes[1]);
	fd = memfd_create("unsealable", MFD_CLOEXEC);
	if (ftruncate(fd, page))
		bail("ftruncate");
	refused(create(device, fd, 0, page), EINVAL, "a memfd that cannot be sealed");
	close(fd);
	fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0) {
		if (ftruncate(fd, page))
			bail("ftruncate");
		refused(create(device, fd, 0, page), EINVAL, "a file of tmpfs");
		close(fd);
	} else {
		skip("no tmpfs at /dev/shm");
	}
	fd = open("/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		refused(create(device, fd, 0, page), EBADFD, "a directory of tmpfs");
		close(fd);
	}
}

static void a_dmabuf_of_a_dmabuf(int device)
{
	int fd = memfd(page), buf = create(device, fd, 0, page);

	refused(create(device, buf, 0, page), EBADFD, "a dma-buf");
	close(buf);
	close(fd);
}

static void lists(int device, int fd)
{
	struct udmabuf_create_item good = { .memfd = fd, .size = page };
	struct udmabuf_create_item items[3] = { good, good, good };
	struct udmabuf_create_list head = { .count = 1 };

	refused(create_list(device, items, 0), EINVAL, "a list of nothing");
	items[1].size = 0;
	refused(create_list(device, items, 3), EINVAL, "second item: size 0");
	items[1] = good;
	items[1].offset = 1;
	refused(create_list(device, items, 3), EINVAL, "second item: offset 1");
	items[1] = good;
	items[2].offset = 4 * page;
	refused(create_list(device, items, 3), EINVAL, "third item: behind the file");
	items[2] = good;
	items[2].memfd = device;
	refused(create_list(device, items, 3), EBADFD, "third item: not a memfd");
	items[1].size = items[2].size = 1ULL << 63;
	refused(create_list(device, items, 3), EINVAL, "sizes that add up to 0");
	items[0].size = items[1].size = items[2].size = ~(uint64_t)page + 1;
	refused(create_list(device, items, 3), EINVAL, "sizes that overflow");
	refused(ioctl(device, UDMABUF_CREATE_LIST, NULL), EFAULT, "no list");
	head.count = ~0U;
	refused(ioctl(device, UDMABUF_CREATE_LIST, &head), EINVAL, "2^32-1 items");
	head.count = 0x0aaaaaab;
	refused(ioctl(device, UDMABUF_CREATE_LIST, &head), EINVAL, "2^32/24+1 items");
	head.count = 1U << 31;
	refused(ioctl(device, UDMABUF_CREATE_LIST, &head), EINVAL, "2^31 items");
}

/* The structure or the list lies partly in memory that is not there. */
static void faults(int device, int fd)
{
	char *two = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct udmabuf_create *request = (void *)(two + page - 8);
	struct udmabuf_create_list *list = (void *)(two + page - sizeof(*list) - 24);

	munmap(two + page, page);
	refused(ioctl(device, UDMABUF_CREATE, NULL), EFAULT, "no structure");
	refused(ioctl(device, UDMABUF_CREATE, request), EFAULT, "half a structure");
	list->count = 2;
	list->list[0].memfd = fd;
	list->list[0].size = page;
	refused(ioctl(device, UDMABUF_CREATE_LIST, list), EFAULT, "half a list");
	munmap(two, page);
}

int main(void)
{
	int device = open_udmabuf();
	int fd = memfd(4 * page);

	seals(device);
	ranges(device, fd);
	files(device);
	a_dmabuf_of_a_dmabuf(device);
	lists(device, fd);
	faults(device, fd);
	refused(ioctl(device, _IO('u', 0x44), 0), ENOTTY, "an unknown ioctl");
	refused(ioctl(device, _IOW('u', 0x42, char), 0), ENOTTY, "UDMABUF_CREATE of another size");
	check(nothing_held(fd), "no page is held after all that");
	return finish();
}
