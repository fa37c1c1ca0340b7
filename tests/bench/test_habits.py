"""What recorded apps do with their buffers is counted, and the document says the same."""

from pathlib import Path

import pytest

from bench.habits import Habits, habits, main
from bench.recording import Batch, Passed, PassedFd, Recording, Speaker
from tests.clients.wire import encode

ROOT = Path(__file__).resolve().parents[2]
SHM, COMPOSITOR, SURFACE, POOL, BUFFER = range(3, 8)


def bind(name: int, interface: str, new: int) -> bytes:
    return encode(2, 0, "usuu", name, interface, 1, new)


def create_buffer(new: int) -> bytes:
    return encode(POOL, 0, "uiiiiu", new, 0, 1, 1, 4, 0)


def attach(buffer: int) -> bytes:
    return encode(SURFACE, 1, "uii", buffer, 0, 0)


def app(data: bytes, *fds: PassedFd) -> Batch:
    return Batch(Speaker.APP, data, fds)


BEGIN = app(
    encode(1, 1, "u", 2)
    + bind(1, "wl_shm", SHM)
    + bind(2, "wl_compositor", COMPOSITOR)
    + encode(COMPOSITOR, 0, "u", SURFACE)
    + encode(SHM, 0, "ui", POOL, 4096),
    PassedFd(Passed.FILE, 4096),
)


def look(*batches: Batch) -> Habits:
    return habits(Recording("app", "app 1", "weston 10", (BEGIN, *batches)))


def test_a_buffer_that_is_shown_at_once() -> None:
    found = look(app(create_buffer(BUFFER) + attach(BUFFER)), app(attach(BUFFER)))
    assert found == Habits("app", 1, 1, 1, 0, 0)


def test_a_buffer_that_is_shown_later_or_never() -> None:
    found = look(
        app(create_buffer(BUFFER) + create_buffer(BUFFER + 1)),
        app(attach(BUFFER) + attach(0)),
    )
    assert found == Habits("app", 1, 2, 0, 1, 1)


def test_an_id_that_is_used_again_is_another_buffer() -> None:
    found = look(
        app(create_buffer(BUFFER) + encode(BUFFER, 0, "")),
        Batch(Speaker.COMPOSITOR, encode(1, 1, "u", BUFFER)),
        app(create_buffer(BUFFER) + attach(BUFFER)),
    )
    assert found == Habits("app", 1, 2, 1, 0, 1)


def test_the_document_has_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    table = capsys.readouterr().out
    assert (
        f"<!-- habits -->\n{table}<!-- /habits -->"
        in (ROOT / "docs/performance.md").read_text()
    )


def test_a_document_without_the_marks_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "document.md"
    document.write_text("nothing\n")
    assert main(["--into", str(document)]) == 1
    assert "no <!-- habits -->" in capsys.readouterr().err
