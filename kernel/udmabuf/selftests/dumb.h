/* SPDX-License-Identifier: GPL-2.0-only */
/* Dumb buffers of DRM drivers: the few things of DRM that are needed, without its headers. */
#ifndef WLPROXY_SELFTESTS_DUMB_H
#define WLPROXY_SELFTESTS_DUMB_H

#include "common.h"

struct drm_version {
	int32_t major, minor, patch;
	size_t name_size;
	char *name;
	size_t date_size;
	char *date;
	size_t description_size;
	char *description;
};

struct create_dumb {
	uint32_t height, width, bpp, flags, handle, pitch;
	uint64_t size;
};

struct map_dumb {
	uint32_t handle, pad;
	uint64_t offset;
};

struct prime_handle {
	uint32_t handle, flags;
	int32_t fd;
};

#define DRM_VERSION _IOWR('d', 0x00, struct drm_version)
#define HANDLE_TO_FD _IOWR('d', 0x2d, struct prime_handle)
#define CREATE_DUMB _IOWR('d', 0xb2, struct create_dumb)
#define MAP_DUMB _IOWR('d', 0xb3, struct map_dumb)

/* The n-th card and what its driver is called; -1 if there is none. */
static UNUSED int open_card(int n, char name[32])
{
	struct drm_version version = { .name = name, .name_size = 31 };
	char path[64];
	int card;

	snprintf(path, sizeof(path), "/dev/dri/card%d", n);
	card = open(path, O_RDWR | O_CLOEXEC);
	if (card < 0 || ioctl(card, DRM_VERSION, &version))
		return -1;
	name[version.name_size < 32 ? version.name_size : 31] = 0;
	return card;
}

/* Whether the buffers of a driver of that name are in video memory. */
static UNUSED bool in_video_memory(const char *name)
{
	return !strcmp(name, "bochs-drm") || !strcmp(name, "qxl") || !strcmp(name, "vmwgfx");
}

#endif /* WLPROXY_SELFTESTS_DUMB_H */
