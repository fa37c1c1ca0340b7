import shutil
import struct
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from bench import screen
from bench.processes import BenchError
from bench.screen import OURS, THEIRS, markdown, medians
from bench.screen_guest import boot_sector, machine
from tests.clients.capture import from_ppm
from wlproxy.host.qemu.qmp import QmpClient


def test_the_guest_is_a_boot_sector_of_that_size() -> None:
    sector = boot_sector(800, 600, video=False)
    assert len(sector) == 512
    assert sector.endswith(b"\x55\xaa")
    assert struct.pack("<HHHH", 1, 800, 2, 600) in sector
    assert boot_sector(800, 600, video=True) != sector


@pytest.mark.slow
@pytest.mark.parametrize("video", [False, True])
def test_the_guest_draws_when_it_is_to(tmp_path: Path, *, video: bool) -> None:
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("needs qemu-system-x86")
    dump = tmp_path / "dump.ppm"
    seen: set[bytes] = set()
    try:
        with machine(tmp_path, 640, 480, video=video):
            deadline = time.monotonic() + 30
            while len(seen) < (4 if video else 2) and time.monotonic() < deadline:
                with QmpClient(tmp_path / "qmp") as monitor:
                    monitor.execute("screendump", filename=str(dump))
                    picture = from_ppm(dump.read_bytes())
                    if (picture.width, picture.height) == (640, 480):
                        seen.add(picture.data[-4:])
                        if not video:
                            monitor.monitor("sendkey spc")
                time.sleep(0.1)
    except BenchError as exc:
        pytest.skip(f"QEMU has no D-Bus display, or no VNC: {exc}")
    assert len(seen) >= (4 if video else 2)


def test_the_table_has_what_was_measured() -> None:
    rounds = [
        {
            (OURS, 1920): {"viewer": viewer, "latency": 20.0, "copied": 0.0},
            (OURS, 640): {"viewer": 7.0},
            (THEIRS, 1920): {"viewer": 300.0},
        }
        for viewer in (9.0, 7.0, 8.0)
    ]
    table = markdown(medians(rounds))
    head, _, *rows = table.splitlines()
    assert head.index("wlproxy screen, 1920 x 1080") < head.index("640 x 480")
    cells = {row.split("|")[1].strip(): row.split("|")[2:5] for row in rows}
    row = cells["viewer, CPU, ms a second"]
    assert [each.strip() for each in row] == ["8.00", "7.00", "300"]
    assert [each.strip() for each in cells["frames a second"]] == ["", "", ""]


def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacks(directory: Path, seconds: float) -> None:
        raise BenchError(f"there is no sway in {directory.parent} for {seconds}")

    monkeypatch.setattr(screen, "measure_round", lacks)
    assert screen.main(["--rounds", "1"]) == 1
    assert "there is no sway" in capsys.readouterr().err


def test_two_checkouts_are_compared_in_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started: what each took is the test's."""
    shown: list[Path] = []
    took = iter([600.0, 400.0, 500.0, 300.0])

    def show(_directory: Path, tree: Path) -> AbstractContextManager[None]:
        shown.append(tree)
        return nullcontext()

    def measure(*_: object) -> dict[str, float]:
        return {"viewer_us": next(took)}

    for name in ("sway", "machine"):
        monkeypatch.setattr(screen, name, lambda *_, **__: nullcontext())
    monkeypatch.setattr(screen, "wlproxy", show)
    monkeypatch.setattr(screen, "measure_video", measure)
    monkeypatch.setattr(screen, "SETTLE", 0)
    assert screen.main(["--rounds", "2", "--beside", str(tmp_path)]) == 0
    assert shown == [tmp_path, screen.HERE] * 2
    said = "550 µs there, 350 µs here, 0.63 times in pairs\n"
    assert capsys.readouterr().out.startswith(said)
