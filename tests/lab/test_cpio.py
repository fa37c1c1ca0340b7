from hypothesis import given
from hypothesis import strategies as st

from lab import cpio


def read(archive: bytes) -> dict[str, cpio.Entry]:
    """Read an archive back, as the kernel does."""
    entries: dict[str, cpio.Entry] = {}
    position = 0
    while True:
        header = archive[position : position + 110].decode()
        fields = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        start = position + 110
        name = archive[start : start + name_size - 1].decode()
        data = start + name_size + -(start + name_size) % 4
        if name == cpio.TRAILER:
            return entries
        entries[name] = cpio.Entry(mode, archive[data : data + size])
        position = data + size + -(data + size) % 4


names = st.text("abc", min_size=1, max_size=5)


@given(st.dictionaries(names, st.binary(max_size=20), max_size=4))
def test_round_trip(files: dict[str, bytes]) -> None:
    archive = cpio.archive({f"dir/{name}": cpio.file(files[name]) for name in files})

    assert len(archive) % 512 == 0
    found = read(archive)
    assert {name: found[f"dir/{name}"].data for name in files} == files
    assert not files or found["dir"].mode == 0o40755


def test_parents_come_before_their_files() -> None:
    archive = cpio.archive(
        {"b/c/d": cpio.file(b"", executable=True), "a": cpio.file(b"")}
    )

    assert list(read(archive)) == ["a", "b", "b/c", "b/c/d"]
    assert read(archive)["b/c/d"].mode == 0o100755
