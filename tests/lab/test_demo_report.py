"""The demo's verdict: what counts as success, and what is said otherwise."""

from typing import Any

from rich.console import Console

from lab.demo_report import (
    FAILED,
    NOT_LOOKED_AT,
    SUCCEEDED,
    Report,
    Sample,
    show,
)

COSTS = {"agent": {"cpu_ns": 0, "io_bytes": 0}, "proxy": {"cpu_ns": 0, "io_bytes": 0}}
METRICS = {"pixel_bytes_copied": 0, "bytes_received": 0, "bytes_sent": 0}


def surface(pid: int, frames: int, **changes: object) -> dict[str, Any]:
    return {
        "client_id": pid,
        "surface": 3,
        "label": f"app({pid})",
        "width": 333,
        "height": 251,
        "shm_format": 1,
        "mode": "A",
        "reason": "zero-copy",
        "frames": frames,
        "bytes_copied": 0,
        **changes,
    }


def report(*surfaces: dict[str, Any], copied: int = 0, moved: int = 100) -> Report:
    metrics = {**METRICS, "pixel_bytes_copied": copied}
    earlier = [{**each, "frames": each["frames"] - moved} for each in surfaces]
    costs = {**COSTS, "proxy": {"cpu_ns": moved * 2_000_000, "io_bytes": moved * 10}}
    before = Sample(1.0, {"surfaces": earlier, "metrics": METRICS}, COSTS)
    after = Sample(11.0, {"surfaces": list(surfaces), "metrics": metrics}, costs)
    return Report(before, after, after.status, {7: "pattern"})


def test_success_is_every_app_shown_without_a_copy() -> None:
    found = report(surface(7, frames=120))

    assert found.judge() == []
    status, (line,) = found.verdict()
    assert status == SUCCEEDED
    assert "no pixel was wrong, none was copied" in line


def test_an_app_without_a_frame_fails() -> None:
    found = report(surface(8, frames=120))

    assert found.judge() == ["pattern has shown nothing"]


def test_a_copied_window_fails_and_says_why() -> None:
    copied = surface(7, frames=120, mode="C", reason="no /dev/udmabuf")
    (which, how_much) = report(copied, copied=4096).judge()

    assert "mode C: no /dev/udmabuf" in which
    assert "4096" in how_much


def test_wrong_pixels_fail() -> None:
    found = report(surface(7, frames=120))
    found.failures.append("wrong pixels")

    assert found.judge() == ["wrong pixels"]


def test_pixels_that_nobody_saw_are_no_success() -> None:
    found = report(surface(7, frames=120))
    found.unseen = "wayland-0 gives no picture"
    status, (copied, unseen) = found.verdict()

    assert status == NOT_LOOKED_AT
    assert copied == "no pixel was copied"
    assert unseen.startswith("pixels NOT looked at: wayland-0 gives no picture; run it")
    assert "without WAYLAND_DISPLAY" in unseen


def test_what_is_wrong_counts_more_than_what_was_not_seen() -> None:
    found = report(surface(7, frames=120), moved=0)
    found.unseen = "wayland-0 gives no picture"
    status, lines = found.verdict()

    assert status == FAILED
    assert lines[0] == "FAILED: nothing moved"
    assert "NOT looked at" in lines[1]


def test_nothing_that_moves_fails() -> None:
    assert report(surface(7, frames=120), moved=0).judge() == ["nothing moved"]


def test_table_has_rates_and_costs_per_frame() -> None:
    console = Console(width=120)
    with console.capture() as shown:
        show(report(surface(7, frames=120)), console)

    text = shown.get()
    assert "333x251" in text
    assert "10.0" in text  # frames a second
    assert "proxy: 2.00 ms of CPU and 10 bytes" in text
