"""Presents what the demo measured: a table for people, and a verdict.

Numbers go in; text and a list of failures come out.
"""

from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

ZERO_COPY = ("A", "B")
SUCCEEDED = 0
FAILED = 1
NOT_LOOKED_AT = 3
"""Nothing was found wrong, but nobody could see the pixels. (2: a wrong command line.)"""
SHM_FORMATS = {0: "ARGB8888", 1: "XRGB8888"}


@dataclass(frozen=True, slots=True)
class Sample:
    """What there was to read at one moment.

    Attributes:
        at: seconds of some clock.
        status: the document of `wlproxy status --json`.
        costs: for proxy and agent, `cpu_ns` and `io_bytes` so far.
    """

    at: float
    status: dict[str, Any]
    costs: dict[str, dict[str, int]]

    def frames(self) -> dict[tuple[int, int], int]:
        """Return the frames so far by client and surface."""
        return {key(each): int(each["frames"]) for each in self.status["surfaces"]}


def key(surface: dict[str, Any]) -> tuple[int, int]:
    """Name a surface for as long as its client lives."""
    return int(surface["client_id"]), int(surface["surface"])


def is_of(surface: dict[str, Any], pid: int) -> bool:
    """Say whether a surface is a guest process's: its label is "name(pid)"."""
    return str(surface["label"]).endswith(f"({pid})")


@dataclass(slots=True)
class Report:
    """The run, between two samples.

    Attributes:
        before: when all apps had shown something.
        after: some seconds later.
        last: the document of `wlproxy status --json` after everything else.
        apps: what was started: process id in the guest, and name for people.
        agent: as whom the agent ran.
        pixels: what is to be said about the pixel checks, a line each.
        unseen: why pixels were not looked at; empty: they were.
        failures: what is wrong; empty: the demo has succeeded.
    """

    before: Sample
    after: Sample
    last: dict[str, Any]
    apps: dict[int, str]
    agent: str = ""
    pixels: list[str] = field(default_factory=list)
    unseen: str = ""
    failures: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it was measured."""
        return self.after.at - self.before.at

    @property
    def frames(self) -> int:
        """Frames that were shown meanwhile, all windows together."""
        earlier = self.before.frames()
        return sum(
            count - earlier.get(which, 0)
            for which, count in self.after.frames().items()
        )

    @property
    def copied(self) -> int:
        """Pixel bytes that the proxy copied since it started."""
        return int(self.last["metrics"]["pixel_bytes_copied"])

    def shown(self) -> list[dict[str, Any]]:
        """Return the surfaces that have shown something, at the end."""
        return [each for each in self.last["surfaces"] if each["frames"]]

    def per_frame(self, who: str, what: str) -> float:
        """Return what each frame has cost."""
        spent = self.after.costs[who][what] - self.before.costs[who][what]
        return spent / max(self.frames, 1)

    def judge(self) -> list[str]:
        """Find what is wrong, beyond what was found wrong already."""
        wrong = list(self.failures)
        for pid, name in self.apps.items():
            if not any(is_of(each, pid) for each in self.shown()):
                wrong.append(f"{name} has shown nothing")
        for surface in self.shown():
            if surface["mode"] not in ZERO_COPY:
                size = f"{surface['width']}x{surface['height']}"
                why = f"mode {surface['mode']}: {surface['reason']}"
                wrong.append(f"{surface['label']} {size} is not zero-copy: {why}")
        if self.copied:
            wrong.append(f"{self.copied} pixel bytes were copied")
        if self.frames == 0:
            wrong.append("nothing moved")
        return wrong

    def verdict(self) -> tuple[int, list[str]]:
        """Return the demo's exit status, and the lines that it ends with."""
        wrong = [f"FAILED: {each}" for each in self.judge()]
        unseen = []
        if self.unseen:
            remedy = "run it without WAYLAND_DISPLAY to have them checked"
            unseen = [f"pixels NOT looked at: {self.unseen}; {remedy}"]
        if wrong:
            return FAILED, wrong + unseen
        if unseen:
            return NOT_LOOKED_AT, ["no pixel was copied", *unseen]
        said = "the demo has succeeded: no pixel was wrong, none was copied"
        return SUCCEEDED, [said]

    def name_of(self, surface: dict[str, Any]) -> str:
        """Name a surface's app for people."""
        for pid, name in self.apps.items():
            if is_of(surface, pid):
                return name
        return str(surface["label"])


def table(report: Report) -> Table:
    """Lay the surfaces out as a table."""
    title = f"windows of the guest, over {report.seconds:.0f} s"
    result = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("window", "format", "mode", "why"):
        result.add_column(heading)
    for heading in ("size", "frames", "fps", "copied"):
        result.add_column(heading, justify="right")
    earlier, later = report.before.frames(), report.after.frames()
    for surface in report.shown():
        moved = later.get(key(surface), 0) - earlier.get(key(surface), 0)
        shm_format = surface["shm_format"]
        result.add_row(
            report.name_of(surface),
            SHM_FORMATS.get(shm_format, f"{shm_format:#x}"),
            surface["mode"],
            # The mode says that it is.
            surface["reason"].removeprefix("zero-copy").lstrip(";, "),
            f"{surface['width']}x{surface['height']}",
            str(surface["frames"]),
            f"{moved / report.seconds:.1f}",
            str(surface["bytes_copied"]),
        )
    return result


def show(report: Report, console: Console) -> None:
    """Print the table and the totals."""
    console.print(table(report))
    console.print(f"pixel bytes copied by wlproxy, since it started: {report.copied}")
    console.print(f"agent: {report.agent}")
    for who in ("agent", "proxy"):
        cpu = report.per_frame(who, "cpu_ns") / 1e6
        moved = report.per_frame(who, "io_bytes")
        console.print(
            f"{who}: {cpu:.2f} ms of CPU and {moved:.0f} bytes read and written a frame"
            f" (/proc/PID, {report.frames} frames)"
        )
    metrics = ("bytes_received", "bytes_sent")
    channel = sum(
        report.after.status["metrics"][each] - report.before.status["metrics"][each]
        for each in metrics
    )
    each_frame = channel / max(report.frames, 1)
    console.print(f"channel: {each_frame:.0f} bytes a frame, both ways, all messages")
    for line in report.pixels:
        console.print(f"pixels: {line}")
