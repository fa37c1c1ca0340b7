"""Formats the status document for people: a few lines, and one line for each window.

The result fits into 80 columns.  Text that peers wrote is made harmless here (`plain`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wlproxy.host.report.vm_log import plain

Document = Mapping[str, Any]

LABELS: Final = 10
"""Columns of what stands before a line's contents."""

MAX_APP: Final = 20
"""Columns of an app's label."""

MARGIN: Final = 2
"""Columns before each line but the first."""

_COLUMNS: Final[tuple[tuple[str, Literal["left", "right"]], ...]] = (
    *(("app", "left"), ("size", "right"), ("frames", "right"), ("copied", "right")),
    ("mode", "left"),
)
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")
_SPANS: Final = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))


def render_status(document: Document, width: int) -> RenderableType:
    """Lay out the document of the status socket, for so many columns."""
    surfaces = [*document.get("surfaces", ()), *_screens(document)]
    shown = [each for each in surfaces if each["frames"]]
    windows = _named(shown)
    marks = _marks(shown)
    parts: list[RenderableType] = [_header(document)]
    if windows:
        parts += [Text(), _table(windows, marks, width)]
    reasons = [
        _line(mark, why, style="yellow" if mode == "C" else "")
        for (mode, why), mark in marks.items()
        if why
    ]
    if reasons:
        parts += [Text(), *reasons]
    if more := _not_listed(surfaces, windows):
        parts += [Text(), _line("besides", more)]
    return Group(*parts)


def data_size(count: int) -> str:
    """Write a number of bytes for people: "12.3 MiB"."""
    if count < 1 << 10:
        return f"{count} B"
    size, unit = float(count), ""
    for unit in _UNITS:  # noqa: B007 - the last one is left
        size /= 1 << 10
        if size < 1000:
            break
    return f"{size:.3g} {unit}"


def time_span(seconds: float) -> str:
    """Write how long something took for people: "2 h 13 min"."""
    whole = int(seconds)
    for size, name, smaller, smaller_name in _SPANS:
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (
                f" {rest} {smaller_name}" if rest else ""
            )
    return f"{whole} s"


def _screens(document: Document) -> Iterator[Document]:
    """Make a surface of each of the machine's own screens that are shown."""
    for each in _screen(document).get("surfaces", ()):
        reason = f"{each['reason']}; hidden" if each["hidden"] else each["reason"]
        yield {
            **each,
            "client_id": 0,
            "surface": each["console"] + 1,
            "kind": "window",
            "label": f"screen {each['console']}",
            "app_id": "",
            "reason": reason,
        }


def _screen(document: Document) -> Document:
    """Return what is said of the screens, if they are shown."""
    return document.get("screen") or {}


def _header(document: Document) -> Group:
    serving = "state" in document
    state = document["state"] if serving else "no proxy, its screen is shown"
    uptime = (document if serving else _screen(document))["uptime"]
    lines: list[RenderableType] = [
        Text.assemble(
            (plain(document["name"]), "bold"),
            f": {state}, up for {time_span(uptime)}",
        )
    ]
    if not serving:
        compositor = _screen(document)["compositor"]
        known = "isolated" if _screen(document)["isolated"] else "not isolated"
        return Group(*lines, _line("compositor", f"{compositor}, {known}"))
    lines += [_line(label, text) for label, text in _facts(document) if text]
    if hint := document["hint"]:
        lines.append(_line("look at", hint, style="yellow"))
    lines += [_line("note", text) for text in _notes(document)]
    return Group(*lines)


def _facts(document: Document) -> Iterator[tuple[str, str]]:
    qemu, isolated = document["qemu"], document["isolated"]
    yield "guest", plain(document["agent"])
    yield "QEMU", f"{qemu['program']}, process {qemu['pid']}" if qemu else ""
    known = "isolated" if isolated else "not isolated"
    there = document["compositor_there"]
    yield "compositor", f"{document['compositor']}, {known if there else 'gone'}"
    yield "confined", document.get("confined", "")
    yield "clock", _clock(document.get("clock"))
    users = ", ".join(plain(user) for user in document.get("launchers", ()))
    yield "exec", f"as {users}" if users else ""
    metrics = document["metrics"]
    copied = metrics["pixel_bytes_copied"]
    apps = sum(not client["closing"] for client in document["clients"])
    amount = data_size(copied) if copied else "no pixel"
    buffers = _count(metrics["udmabufs_alive"], "zero-copy buffer")
    yield "shown", f"{_count(apps, 'app')}, {buffers}, {amount} copied so far"


def _clock(clock: Mapping[str, int] | None) -> str:
    if clock is None:
        return ""
    offset, error = clock["offset_ns"] / 1e6, clock["error_ns"] / 1e6
    way = "ahead" if offset >= 0 else "behind"
    return f"the guest's is {abs(offset):,.1f} ms {way}, give or take {error:.2g} ms"


def _notes(document: Document) -> Iterator[str]:
    yield from document["remarks"]
    if bugs := document["metrics"].get("bugs", 0):
        yield f"{_count(bugs, 'bug')} of wlproxy's own, contained: please report the log"


def _named(shown: Sequence[Document]) -> list[Document]:
    """Choose the surfaces that a person would call windows."""
    windowed = {each["client_id"] for each in shown if each["kind"] == "window"}
    return [
        each
        for each in shown
        if each["kind"] == "window"
        or (each["kind"] == "part" and each["client_id"] not in windowed)
    ]


def _marks(shown: Sequence[Document]) -> dict[tuple[str, str], str]:
    """Name each kind of reason by its mode, and by a letter if the mode has several."""
    kinds: dict[str, dict[str, tuple[str, str]]] = {}
    for each in shown:
        reason = (each["mode"], plain(each["reason"]))
        kinds.setdefault(each["mode"], {}).setdefault(_kind(each["reason"]), reason)
    return {
        reason: mode if len(reasons) == 1 else f"{mode}{number}"
        for mode, reasons in sorted(kinds.items())
        for number, reason in enumerate(reasons.values(), 1)
    }


def _kind(reason: str) -> str:
    """Tell reasons apart that differ in more than numbers."""
    return re.sub(r"\d+", "#", plain(reason))


def _table(
    windows: Sequence[Document], marks: Mapping[tuple[str, str], str], width: int
) -> RenderableType:
    by_kind = {(mode, _kind(why)): mark for (mode, why), mark in marks.items()}
    rows = [
        (
            set_cell_size(label, MAX_APP - 1) + "~" if len(label) > MAX_APP else label,
            f"{each['width']}x{each['height']}",
            f"{each['frames']}",
            data_size(each["bytes_copied"]) if each["bytes_copied"] else "-",
            by_kind[each["mode"], _kind(each["reason"])],
        )
        for each in windows
        for label in (plain(each["label"]),)
    ]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    for column, justify in _COLUMNS:
        table.add_column(Text(column, style="bold"), justify=justify, no_wrap=True)
    table.add_column(Text("window", style="bold"), no_wrap=True, overflow="crop")
    cells = [tuple(column for column, _ in _COLUMNS), *rows]
    taken = sum(2 + max(map(len, column)) for column in zip(*cells, strict=True))
    for row, each in zip(rows, windows, strict=True):
        title = plain(each["title"] or each["app_id"])
        table.add_row(*map(Text, row), Text(_fitted(title, width - taken - MARGIN)))
    return Padding(table, (0, 0, 0, MARGIN))


def _fitted(text: str, cells: int) -> str:
    """Cut a text to so many columns, and show that it was cut."""
    if cell_len(text) <= cells:
        return text
    return set_cell_size(text, max(cells - 3, 1)).rstrip() + "..."


def _not_listed(surfaces: Sequence[Document], windows: Sequence[Document]) -> str:
    listed = {(each["client_id"], each["surface"]) for each in windows}
    rest = [
        each for each in surfaces if (each["client_id"], each["surface"]) not in listed
    ]
    shown = [each for each in rest if each["frames"]]
    counts = (
        (sum(each["kind"] == "part" for each in shown), "popup or part of a window"),
        (sum(each["kind"] == "cursor" for each in shown), "cursor"),
        (len(rest) - len(shown), "surface that has shown nothing"),
    )
    return ", ".join(_count(number, what) for number, what in counts if number)


def _count(number: int, what: str) -> str:
    plurals = {
        "popup or part of a window": "popups and parts of windows",
        "surface that has shown nothing": "surfaces that have shown nothing",
    }
    return f"{number} {what if number == 1 else plurals.get(what, f'{what}s')}"


def _line(label: str, text: str, *, style: str = "") -> RenderableType:
    """Put a label before a text, whose further lines are indented."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=LABELS, no_wrap=True)
    grid.add_column()
    grid.add_row(Text(label, style="dim"), Text(text, style=style))
    return Padding(grid, (0, 0, 0, MARGIN))
