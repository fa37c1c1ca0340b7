// SPDX-License-Identifier: GPL-2.0-only
/*
 * What gem_locate makes of exporters that are not as simple as most: of those of the module
 * in exporter/, without which all of this is skipped, and of a driver of video memory.
 *
 * gem_locate_exporters --fault N: has that module commit a fault, on a debug kernel.
 */
#include "dumb.h"
#include "located.h"
#include "exporter/gem_locate_exporter.h"

static int exporter;

static int export(enum exporter_kind kind)
{
	return ioctl(exporter, EXPORTER_CREATE(kind));
}

/* A last reference is put when a system call returns, so that it may take a moment. */
static bool nothing_left(void)
{
	int left = 1;

	for (int i = 0; i < 200 && left; i++) {
		left = ioctl(exporter, EXPORTER_COUNT(EXPORTER_BUFFERS)) +
		       ioctl(exporter, EXPORTER_COUNT(EXPORTER_ATTACHMENTS)) +
		       ioctl(exporter, EXPORTER_COUNT(EXPORTER_MAPPINGS));
		if (left)
			usleep(10000);
	}
	return !left;
}

static void good(int device, enum exporter_kind kind, uint64_t bytes, const char *what)
{
	int fd = export(kind);
	struct located it;

	check(read_extents(&it, locate_dmabuf(device, fd)), "%s: located", what);
	check(it.bytes == bytes, "%s: all %llu bytes of it", what, (unsigned long long)bytes);
	check(it.count && it.extents[0].gpa % page == 0, "%s: in %u extents", what, it.count);
	check(ioctl(exporter, EXPORTER_COUNT(EXPORTER_MAPPINGS)) == 1, "%s: mapped once", what);
	close(fd);
	check(ioctl(exporter, EXPORTER_COUNT(EXPORTER_MAPPINGS)) == 1,
	      "%s: still mapped when the dma-buf is closed", what);
	forget(&it);
	check(nothing_left(), "%s: nothing is left", what);
}

static void bad(int device, enum exporter_kind kind, int wanted, const char *what)
{
	int fd = export(kind);

	if (fd < 0 && errno == ENXIO) {
		skip("%s: no ivshmem device", what);
		return;
	}
	if (fd < 0 && errno == EOPNOTSUPP) {
		skip("%s: this kernel has no struct pages for devices", what);
		return;
	}
	if (fd < 0)
		bail("%s", what);
	/* Twice, to see that the first time has left nothing behind. */
	refused(locate_dmabuf(device, fd), wanted, what);
	refused(locate_dmabuf(device, fd), wanted, what);
	close(fd);
	check(nothing_left(), "%s: nothing is left", what);
}

static void refusals(int device)
{
	bad(device, EXPORTER_DEVICE, EREMOTE, "in a device's memory");
	bad(device, EXPORTER_MIXED, EREMOTE, "its last page in a device's memory");
	bad(device, EXPORTER_DEVICE_PAGES, EREMOTE, "a device's memory with struct pages");
	bad(device, EXPORTER_DYNAMIC, EOPNOTSUPP, "dynamic");
	check(!ioctl(exporter, EXPORTER_COUNT(EXPORTER_PINS)), "dynamic: was never pinned");
	bad(device, EXPORTER_SHORT, EIO, "a page short");
	bad(device, EXPORTER_NOTHING, EIO, "empty segments alone");
	bad(device, EXPORTER_JOINED, EXDEV, "segments joined by an IOMMU");
	if (ioctl(exporter, EXPORTER_PAGES_HIDDEN))
		skip("another page's address: CONFIG_DMABUF_DEBUG hides the pages");
	else
		bad(device, EXPORTER_ELSEWHERE, EXDEV, "another page's address");
	bad(device, EXPORTER_NO_ATTACH, ENODEV, "the exporter refuses to be attached to");
	bad(device, EXPORTER_NO_MAP, EBUSY, "the exporter refuses to map");
	bad(device, EXPORTER_NULL_MAP, ENOMEM, "the exporter maps nothing");
}

/* With an object's worth of limits, so that a refusal that stays charged is seen. */
static void uncharged(int device)
{
	int fd = export(EXPORTER_SHORT), wrong = 0;
	struct located it;

	if (!write_file(parameter_path("gem_locate", "max_objects"), "1")) {
		skip("cannot change gem_locate's parameters");
		close(fd);
		return;
	}
	for (int i = 0; i < 1000; i++)
		wrong += locate_dmabuf(device, fd) != -1 || errno != EIO;
	check(!wrong, "refused a thousand times, with room for one object");
	close(fd);
	fd = export(EXPORTER_RAM);
	check(read_extents(&it, locate_dmabuf(device, fd)), "then there is room for one");
	forget(&it);
	close(fd);
	write_file(parameter_path("gem_locate", "max_objects"), "4096");
	check(nothing_left(), "nothing is left");
}

static void video_memory(int device)
{
	struct create_dumb dumb = { .width = 64, .height = 64, .bpp = 32 };
	struct prime_handle handle = { .flags = O_RDWR | O_CLOEXEC };
	char name[32] = "";
	int card = -1;

	for (int n = 0; n < 8 && (card < 0 || !in_video_memory(name)); n++) {
		close(card);
		card = open_card(n, name);
	}
	if (card < 0 || !in_video_memory(name)) {
		skip("no driver with video memory");
		return;
	}
	if (ioctl(card, CREATE_DUMB, &dumb)) {
		check(false, "%s: dumb buffer", name);
		return;
	}
	handle.handle = dumb.handle;
	if (ioctl(card, HANDLE_TO_FD, &handle)) {
		/* That depends on the kernel's version. */
		check(errno == ENOSYS, "%s: refused: %s, by the driver, which exports nothing",
		      name, strerrorname_np(errno));
		return;
	}
	for (int i = 0; i < 2; i++) {
		int fd = locate_dmabuf(device, handle.fd);

		/* It keeps its memory to itself, so that there is nothing to be looked at. */
		check(fd < 0 && (errno == ENOSYS || errno == EREMOTE || errno == EOPNOTSUPP),
		      "%s: refused: %s", name, fd < 0 ? strerrorname_np(errno) : "not at all");
		close(fd);
	}
	close(handle.fd);
	close(card);
}

int main(int argc, char **argv)
{
	int device;

	if (argc > 2 && !strcmp(argv[1], "--fault")) {
		exporter = open("/dev/gem-locate-exporter", O_RDWR | O_CLOEXEC);
		return ioctl(exporter, EXPORTER_FAULT(atoi(argv[2]))) != 0;
	}
	device = open_gem_locate();

	exporter = open("/dev/gem-locate-exporter", O_RDWR | O_CLOEXEC);
	if (exporter < 0) {
		printf("1..0 # SKIP /dev/gem-locate-exporter: %s\n", strerror(errno));
		return 4;
	}
	good(device, EXPORTER_RAM, EXPORTER_PAGES * page, "pages");
	good(device, EXPORTER_EMPTY, EXPORTER_PAGES * page, "empty segments");
	good(device, EXPORTER_LONG, EXPORTER_PAGES * page, "a page too many");
	good(device, EXPORTER_CUT, EXPORTER_PAGES * page - 100, "ends within a page");
	refusals(device);
	uncharged(device);
	video_memory(device);
	return finish();
}
