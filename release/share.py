"""Keeps `share/` as the command lines would have it."""

from pathlib import Path

from release.completions import completions
from release.pages import pages

SHARE = Path(__file__).parent.parent / "share"


def made() -> dict[str, str]:
    """Make the files: path below `share/` -> text."""
    return pages() | completions()


def outdated(share: Path = SHARE) -> list[str]:
    """List the files that are not, or not any more, what they should be."""
    wanted = made()
    there = {
        path.relative_to(share).as_posix(): path.read_text()
        for directory in sorted({name.partition("/")[0] for name in wanted})
        for path in (share / directory).rglob("*")
        if path.is_file()
    }
    return sorted(
        name for name in wanted | there if wanted.get(name) != there.get(name)
    )


def write(share: Path = SHARE) -> None:
    """Write what is not current, and remove what nothing is made of any more."""
    wanted = made()
    for name in outdated(share):
        path = share / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name])
        else:
            path.unlink()
