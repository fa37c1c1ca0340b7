// SPDX-License-Identifier: GPL-2.0-only
/* Everything that /dev/gem-locate refuses, and with which errno. */
#include "located.h"

static void reserved_fields(int device, int fd)
{
	const struct gem_locate_memfd good = { .fd = fd, .length = page };
	struct gem_locate_memfd memfd_request;
	struct gem_locate_dmabuf request = { .fd = -1, .flags = 1 };
	int located;

	memfd_request = good;
	memfd_request.flags = 1;
	refused(ioctl(device, GEM_LOCATE_MEMFD, &memfd_request), EINVAL, "memfd: a flag");
	memfd_request = good;
	memfd_request.count = 1;
	refused(ioctl(device, GEM_LOCATE_MEMFD, &memfd_request), EINVAL, "memfd: count");
	memfd_request = good;
	memfd_request.reserved = 1;
	refused(ioctl(device, GEM_LOCATE_MEMFD, &memfd_request), EINVAL, "memfd: reserved");
	refused(ioctl(device, GEM_LOCATE_DMABUF, &request), EINVAL, "dma-buf: a flag");
	request = (struct gem_locate_dmabuf){ .fd = -1, .size = 1 };
	refused(ioctl(device, GEM_LOCATE_DMABUF, &request), EINVAL, "dma-buf: size");
	request = (struct gem_locate_dmabuf){ .fd = -1, .count = 1 };
	refused(ioctl(device, GEM_LOCATE_DMABUF, &request), EINVAL, "dma-buf: count");
	request = (struct gem_locate_dmabuf){ .fd = -1, .reserved = 1 };
	refused(ioctl(device, GEM_LOCATE_DMABUF, &request), EINVAL, "dma-buf: reserved");

	memfd_request = good;
	located = accepted(ioctl(device, GEM_LOCATE_MEMFD, &memfd_request), "a page of a memfd");
	check(memfd_request.count == 1 && !memfd_request.reserved, "it is one extent");
	check(fcntl(located, F_GETFD) & FD_CLOEXEC, "its descriptor is closed at exec");
	close(located);
}

static void ranges(int device, int fd)
{
	int small = memfd(100);

	refused(locate_memfd(device, fd, 0, 0), EINVAL, "length 0");
	refused(locate_memfd(device, fd, 0, 100), EINVAL, "length not of whole pages");
	refused(locate_memfd(device, fd, 100, page), EINVAL, "offset not of whole pages");
	refused(locate_memfd(device, fd, 0, 5 * page), EINVAL, "longer than the file");
	refused(locate_memfd(device, fd, 4 * page, page), EINVAL, "behind the file");
	refused(locate_memfd(device, fd, 1ULL << 63, page), EINVAL, "offset 2^63");
	refused(locate_memfd(device, fd, page, ~(uint64_t)page + 1), EINVAL, "length -1 page");
	close(accepted(locate_memfd(device, fd, 3 * page, page), "the last page"));
	close(accepted(locate_memfd(device, small, 0, page), "all of a file's last page"));
	close(small);
}

static void files(int device)
{
	char path[64];
	int fd, other;

	refused(locate_memfd(device, -1, 0, page), EBADF, "memfd: no descriptor");
	refused(locate_dmabuf(device, -1), EBADF, "dma-buf: no descriptor");
	refused(locate_memfd(device, device, 0, page), EBADFD, "memfd: the device itself");
	refused(locate_dmabuf(device, device), EINVAL, "dma-buf: the device itself");
	fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	refused(locate_memfd(device, fd, 0, page), EBADFD, "memfd: another file system's");
	close(fd);
	fd = memfd(page);
	refused(locate_dmabuf(device, fd), EINVAL, "dma-buf: a memfd");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	other = open(path, O_WRONLY | O_CLOEXEC);
	refused(locate_memfd(device, other, 0, page), EACCES, "memfd: open for writing only");
	close(other);
	other = open(path, O_RDONLY | O_CLOEXEC);
	close(accepted(locate_memfd(device, other, 0, page), "memfd: open for reading only"));
	close(other);
	other = open(path, O_PATH | O_CLOEXEC);
	refused(locate_memfd(device, other, 0, page), EBADF, "memfd: O_PATH");
	close(other);
	close(fd);
	fd = memfd_with(page, 0, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	close(accepted(locate_memfd(device, fd, 0, page), "memfd: sealed against everything"));
	close(fd);
	fd = memfd_create("unsealable", MFD_CLOEXEC);
	if (ftruncate(fd, page))
		bail("ftruncate");
	close(accepted(locate_memfd(device, fd, 0, page), "memfd: cannot be sealed"));
	close(fd);
}

static void addresses(int device, int fd)
{
	struct gem_locate_extent one = { .length = 77 };
	struct gem_locate_extents list = { .extents = 16, .count = 9 };
	struct gem_locate_version version = { .reserved = 1 };
	int located = locate_memfd(device, fd, 0, page);

	refused(ioctl(device, GEM_LOCATE_VERSION, 16), EFAULT, "version: a bad address");
	refused(ioctl(device, GEM_LOCATE_MEMFD, 16), EFAULT, "memfd: a bad address");
	refused(ioctl(device, GEM_LOCATE_DMABUF, 16), EFAULT, "dma-buf: a bad address");
	refused(ioctl(located, GEM_LOCATE_EXTENTS, 16), EFAULT, "extents: a bad address");
	refused(ioctl(located, GEM_LOCATE_EXTENTS, &list), EFAULT, "extents: a bad array");
	list = (struct gem_locate_extents){ .reserved = 1 };
	refused(ioctl(located, GEM_LOCATE_EXTENTS, &list), EINVAL, "extents: reserved");
	list = (struct gem_locate_extents){ .extents = 16 };
	check(!ioctl(located, GEM_LOCATE_EXTENTS, &list) && list.count == 1, "counting");
	list = (struct gem_locate_extents){ .extents = (uintptr_t)&one, .count = 9 };
	check(!ioctl(located, GEM_LOCATE_EXTENTS, &list) && list.count == 1 && one.length == page,
	      "more room than needed is fine");
	check(!ioctl(device, GEM_LOCATE_VERSION, &version) && !version.reserved &&
	      version.version == GEM_LOCATE_ABI_VERSION, "version %u", version.version);
	refused(ioctl(device, GEM_LOCATE_EXTENTS, &list), ENOTTY, "extents of the device");
	refused(ioctl(located, GEM_LOCATE_MEMFD, &list), ENOTTY, "memfd of what was located");
	refused(ioctl(device, _IO('w', 0x6f), 0), ENOTTY, "an unknown ioctl");
	refused(ioctl(device, _IOWR('w', 0x62, char), 0), ENOTTY, "a known one of another size");
	refused(ioctl(located, GEM_LOCATE_VERSION, &version), ENOTTY, "version of an object");
	close(located);
}

int main(void)
{
	int device = open_gem_locate(), fd = memfd(4 * page);

	reserved_fields(device, fd);
	ranges(device, fd);
	files(device);
	addresses(device, fd);
	check(nothing_held(fd), "no page is held after all that");
	return finish();
}
