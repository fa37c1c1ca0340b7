// SPDX-License-Identifier: GPL-2.0-only
/* list_limit and size_limit_mb, changed while the driver runs. Needs root. */
#include "common.h"

static char path_of_list[256], path_of_size[256], list_before[32], size_before[32];

static void list_limit(int device, int fd)
{
	struct udmabuf_create_item items[1100];

	for (int i = 0; i < 1100; i++)
		items[i] = (struct udmabuf_create_item){ .memfd = fd, .size = page };
	close(accepted(create_list(device, items, 1024), "1024 items"));
	refused(create_list(device, items, 1025), EINVAL, "1025 items");
	check(write_file(path_of_list, "2"), "list_limit is lowered");
	close(accepted(create_list(device, items, 2), "2 of 2 items"));
	refused(create_list(device, items, 3), EINVAL, "3 of 2 items");
	check(write_file(path_of_list, "1100"), "list_limit is raised");
	close(accepted(create_list(device, items, 1100), "1100 of 1100 items"));
	check(write_file(path_of_list, "0"), "list_limit is 0");
	refused(create_list(device, items, 1), EINVAL, "a list, when none are allowed");
	close(accepted(create(device, fd, 0, page), "UDMABUF_CREATE is not a list"));
}

/* Past fault of other drivers: the length of the list was computed in 32 bits. */
static void overflow(int device)
{
	struct udmabuf_create_list head = {};
	static const unsigned int counts[] = {
		0x0aaaaaab, 0x15555556, 0x55555550, 0x7fffffff,
	};

	if (in_tree()) {
		skip("the in-tree driver (6.12) reads behind a list whose length has wrapped");
		write_file(path_of_list, "1024");
		return;
	}
	if (!write_file(path_of_list, "2147483647"))
		check(write_file(path_of_list, "89478485"), "list_limit can be millions");
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		head.count = counts[i];
		check(ioctl(device, UDMABUF_CREATE_LIST, &head) < 0,
		      "a list of %u items that is not there is refused", counts[i]);
	}
	write_file(path_of_list, "1024");
}

static void size_limit(int device)
{
	int fd = memfd(80 << 20);
	struct udmabuf_create_item two[2] = {
		{ .memfd = fd, .size = 512 << 10 }, { .memfd = fd, .size = 512 << 10 },
	};

	refused(create(device, fd, 0, (64 << 20) + page), EINVAL, "64 MiB and a page");
	close(accepted(create(device, fd, 0, 64 << 20), "64 MiB"));
	check(write_file(path_of_size, "1"), "size_limit_mb is lowered");
	close(accepted(create(device, fd, 0, 1 << 20), "1 of 1 MiB"));
	refused(create(device, fd, 0, (1 << 20) + page), EINVAL, "a page more");
	close(accepted(create_list(device, two, 2), "1 of 1 MiB in two items"));
	two[1].size += page;
	refused(create_list(device, two, 2), EINVAL, "a page more in two items");
	check(write_file(path_of_size, "80"), "size_limit_mb is raised");
	close(accepted(create(device, fd, 0, 80 << 20), "80 of 80 MiB"));
	check(write_file(path_of_size, "0"), "size_limit_mb is 0");
	refused(create(device, fd, 0, page), EINVAL, "a page, when none are allowed");
	close(fd);
}

static void nonsense(int device, int fd)
{
	static const char *const values[] = { "-1", "-2147483648", "4294967296", " ", "x", "1x" };

	write_file(path_of_list, "1024");
	write_file(path_of_size, "64");
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		if (in_tree() && values[i][0] == '-') {
			skip("the in-tree driver takes negative limits");
			continue;
		}
		check(!write_file(path_of_list, values[i]), "list_limit \"%s\" is refused",
		      values[i]);
		check(!write_file(path_of_size, values[i]), "so is size_limit_mb");
	}
	close(accepted(create(device, fd, 0, page), "and the limits are as before"));
}

int main(void)
{
	int device = open_udmabuf(), fd = memfd(page);

	snprintf(path_of_list, sizeof(path_of_list), "%s",
		 parameter_path(udmabuf_module(), "list_limit"));
	snprintf(path_of_size, sizeof(path_of_size), "%s",
		 parameter_path(udmabuf_module(), "size_limit_mb"));
	if (!read_file(path_of_list, list_before, sizeof(list_before)) ||
	    !read_file(path_of_size, size_before, sizeof(size_before)) ||
	    !write_file(path_of_list, "1024") || !write_file(path_of_size, "64")) {
		skip("the limits cannot be written");
		return finish();
	}
	check(in_tree() || (atoi(list_before) == 1024 && atoi(size_before) == 64),
	      "defaults: 1024 items, 64 MiB (%d, %d)", atoi(list_before), atoi(size_before));
	list_limit(device, fd);
	overflow(device);
	size_limit(device);
	nonsense(device, fd);
	write_file(path_of_list, list_before);
	write_file(path_of_size, size_before);
	return finish();
}
