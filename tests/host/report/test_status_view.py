"""What `wlproxy status` shows, on a terminal of 80 columns."""

import io

import pytest
from rich.console import Console

from tests.documents import document, screen, window
from wlproxy.host.report.status_view import (
    Document,
    data_size,
    render_status,
    time_span,
)

WIDTH = 80


def lines(of: Document, width: int = WIDTH) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False)
    console.print(render_status(of, width))
    shown = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert max(map(len, shown)) <= width
    return shown


def rows(of: Document) -> list[str]:
    """The lines of the table, without its head."""
    shown = lines(of)
    start = next(n for n, line in enumerate(shown) if line.split()[:1] == ["app"])
    end = next(n for n, line in enumerate(shown) if n > start and not line)
    return shown[start + 1 : end]


def test_the_head_says_what_is_connected_to_what() -> None:
    shown = lines(document(window()))
    assert shown[0] == "work: serving, up for 2 h 13 min"
    assert "qemu-system-x86_64, process 4711" in shown[2]
    assert "/run/user/1000/wayland-1, isolated" in shown[3]
    assert "1 app, 3 zero-copy buffers, no pixel copied so far" in shown[4]


def test_the_head_says_what_the_proxy_may_do() -> None:
    shown = lines(document(window(), confined="no: --no-confine"))
    assert any(line.split() == ["confined", "no:", "--no-confine"] for line in shown)


def test_a_window_is_a_line() -> None:
    [row] = rows(document(window(title="~/src — vim")))
    cells = ["foot(312)", "800x600", "7", "-", "A", "~/src", "—", "vim"]
    assert row.split() == cells


def test_the_machines_own_screen_is_a_line() -> None:
    seen = rows(document(window(), screen=screen()))
    assert seen[1].split() == [
        "screen",
        "0",
        "720x400",
        "12",
        "-",
        "A2",
        "[work]",
        "screen",
    ]
    assert any("in place" in line for line in lines(document(screen=screen())))


def test_screens_without_a_proxy() -> None:
    copied = {"console": 1, "mode": "C", "bytes_copied": 4096, "hidden": True}
    shown = lines({"name": "work", "screen": screen({}, copied)})
    assert shown[0] == "work: no proxy, its screen is shown, up for 1 min 1 s"
    assert "wayland-1, not isolated" in shown[1]
    assert any("4.00 KiB" in line or "4 KiB" in line for line in shown)
    assert any("hidden" in line for line in shown)


def test_only_what_a_person_would_call_a_window_is_a_line() -> None:
    others = [
        window(surface=2, kind="part"),
        window(surface=3, kind="part"),
        window(surface=4, kind="cursor"),
        window(surface=5, frames=0),
        window(surface=6, kind="part", frames=0),
    ]
    of = document(window(), *others)
    assert len(rows(of)) == 1
    [rest] = [line for line in lines(of) if "besides" in line]
    assert "2 popups and parts of windows, 1 cursor, 2 surfaces that" in rest


def test_an_app_that_has_nothing_but_a_panel_has_a_line() -> None:
    panel = window(client_id=2, kind="part", app_id="", label="waybar(7)")
    assert len(rows(document(window(), panel))) == 2


def test_a_reason_is_there_once_and_whole() -> None:
    limit = "{} extents, udmabuf list_limit is 1024: raise it, as `wlproxy doctor` says"
    surfaces = [
        window(),
        window(surface=2),
        window(surface=3, mode="C", reason=limit.format(4000), bytes_copied=12 << 20),
        window(surface=4, mode="C", reason=limit.format(5000)),
        window(surface=5, mode="C", reason="asked for"),
        window(surface=6, kind="part", mode="B", reason="zero-copy, no upload either"),
    ]
    of = document(*surfaces)
    assert [row.split()[4] for row in rows(of)] != []
    text = " ".join(" ".join(lines(of)).split())
    assert text.count(surfaces[0]["reason"]) == 1
    assert f"C1 {limit.format(4000)}" in text
    assert "5000 extents" not in text
    assert "C2 asked for" in text
    assert "B zero-copy, no upload either" in text  # though its surface is not listed
    assert "12 MiB" in text


def test_long_titles_and_labels_are_cut_and_the_rest_stays_in_its_columns() -> None:
    title = "漢字 and so on, " * 40
    surfaces = [
        window(title=title, label="an-executable-of-a-long-name-indeed(123456)"),
        window(surface=2, bytes_copied=(1 << 40) - 1, frames=10_000_000),
    ]
    for width in (80, 100, 200):
        shown = lines(document(*surfaces), width)
        [row] = [line for line in shown if "漢字" in line]
        assert row.endswith("...")
        assert "an-executable-of-a-" in row
        assert "800x600" in row
    assert any("10000000" in line for line in shown)


def test_nothing_that_peers_say_moves_a_cursor() -> None:
    evil = "a\x1b[2J\nb\u202e"
    of = document(window(title=evil, label=evil, reason=evil), agent=evil, name=evil)
    assert not {"\x1b", "\u202e"} & set("".join(lines(of)))


def test_what_is_wrong_is_said_with_what_to_look_at() -> None:
    of = document(
        state="waiting for QEMU",
        hint="nobody listens at /c",
        remarks=["the compositor hides nothing"],
        qemu=None,
        compositor_there=False,
        agent="",
        metrics={"udmabufs_alive": 0, "pixel_bytes_copied": 5 << 20, "bugs": 2},
    )
    text = "\n".join(lines(of))
    assert "look at    nobody listens at /c" in text
    assert "note       the compositor hides nothing" in text
    assert "note       2 bugs of wlproxy's own" in text
    assert "QEMU  " not in text
    assert "/run/user/1000/wayland-1, gone" in text
    assert "5 MiB copied" in text


def test_the_guests_clock() -> None:
    clock = {"offset_ns": -1_234_567_890, "error_ns": 150_000}
    text = "\n".join(lines(document(clock=clock)))
    assert "the guest's is 1,234.6 ms behind, give or take 0.15 ms" in text
    assert "clock" not in "\n".join(lines(document(clock=None)))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (999 << 10, "999 KiB"),
        (1023 << 10, "0.999 MiB"),
        (12_900_000, "12.3 MiB"),
        (5 << 40, "5 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert data_size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7988, "2 h 13 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert time_span(seconds) == text


def test_as_whom_commands_run_in_the_guest() -> None:
    text = "\n".join(lines(document(launchers=["ada", "b\x1bb"])))

    assert "as ada, b?b" in text
    assert "exec" not in "\n".join(lines(document(launchers=[])))
