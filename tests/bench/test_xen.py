"""What `bench.xen` does besides Xen: maps, reads, and writes a table."""

import os

from bench.xen import PAGE, map_and_read, table


def test_what_is_mapped_is_read_twice() -> None:
    row: dict[str, list[float]] = {}
    fd = os.memfd_create("pages", os.MFD_CLOEXEC)
    os.ftruncate(fd, 4 * PAGE)
    for _ in range(3):
        map_and_read(row, fd, 4 * PAGE)
    os.close(fd)
    assert list(row) == [
        *("host: mmap", "host: first frame read", "host: next frame read"),
        "host: munmap",
    ]
    assert all(len(times) == 3 and min(times) > 0 for times in row.values())


def test_the_table_has_a_line_for_each_thing() -> None:
    rows = {
        "small": {"mmap": 0.1, "munmap": 12.345},
        "large": {"mmap": 3.0, "munmap": 4.0},
    }
    assert table("grants, ms", rows).splitlines() == [
        "| grants, ms | small | large |",
        "|---|---|---|",
        "| mmap | 0.10 | 3.00 |",
        "| munmap | 12.35 | 4.00 |",
    ]
