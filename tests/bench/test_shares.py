"""Whose the CPU time is: what samples add up to, and the looking itself."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.shares import OTHERS, Share, main, markdown, shares

SPINS = """
while True:
    print(flush=True)
    sum(range(100_000))
"""


def test_samples_are_added_up_by_whose_they_are() -> None:
    places = {
        "/x/wlproxy/relay/client.py": 2,
        "/x/wlproxy/relay/wire/context.py": 1,
        "/x/guest-agent/wlproxy_guest/link.py": 1,
        "/x/site-packages/trio/_core/_run.py": 3,
        "/usr/lib/python3.11/heapq.py": 1,
    }
    assert shares(places) == {
        "relay": 3 / 8,
        "the shell": 1 / 8,
        "trio": 3 / 8,
        OTHERS: 1 / 8,
    }


def test_a_column_for_each_end() -> None:
    share = Share("sync, agent", 250.0, 0.25, {"trio": 0.5}, 900)
    lines = markdown([share]).splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:4]] == ["250", "25"]
    [trio] = [line for line in lines if "trio" in line]
    assert trio.split("|")[2].strip() == "50"


def test_a_module_is_looked_at_from_one_signal_to_the_next(tmp_path: Path) -> None:
    (tmp_path / "spins.py").write_text(SPINS)
    path = tmp_path / "samples"
    words = [sys.executable, "-m", "bench.sampled", str(path), "spins"]
    environ = {**os.environ, "PYTHONPATH": f"{Path.cwd()}:{tmp_path}"}
    with subprocess.Popen(words, env=environ, stdout=subprocess.PIPE) as spinning:
        try:
            assert spinning.stdout is not None
            spinning.stdout.readline()
            spinning.send_signal(signal.SIGUSR1)
            for _ in range(200):  # some 200 ms of its CPU time
                spinning.stdout.readline()
            spinning.send_signal(signal.SIGUSR2)
            while not path.exists():
                spinning.stdout.readline()
        finally:
            spinning.kill()
    places = json.loads(path.read_text())
    assert max(places, key=places.get) == str(tmp_path / "spins.py")


@pytest.mark.slow
def test_a_run_that_is_too_short_to_rely_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "document.md"
    document.write_text("a\n<!-- shares -->\n<!-- /shares -->\nb\n")
    assert main(["--quick", "--into", str(document)]) == 0, capsys.readouterr().err
    assert "| in functions of trio, %" in document.read_text()
