"""The command line; and a whole run, short, with whatever peers this machine has."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.seats import on_seat
from bench.workloads import Workload
from tests.bench import runs
from tests.bench.runs import add

SIDES = ("app_side", "compositor_side")


def test_a_table_is_printed_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    add(runs.results(), "sync", "wlproxy", "cpu_us", 5.0, 5.0).write(path)
    assert main(["--table", str(path)]) == 0
    assert "| sync |" in capsys.readouterr().out


def test_a_table_is_put_into_a_document(tmp_path: Path) -> None:
    path, document = tmp_path / "kept" / "results.json", tmp_path / "document.md"
    path.parent.mkdir()
    path.with_name("cpu.svg").touch()
    add(runs.results(), "sync", "wlproxy", "cpu_us", 5.0, 5.0).write(path)
    document.write_text("before\n<!-- bench -->\n<!-- /bench -->\nafter\n")
    assert main(["--table", str(path), "--into", str(document)]) == 0
    text = document.read_text()
    assert "| sync |" in text
    assert "](kept/cpu.svg)" in text
    assert "rate.svg" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_a_document_without_a_place_for_it_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, document = tmp_path / "results.json", tmp_path / "document.md"
    add(runs.results(), "sync", "wlproxy", "cpu_us", 5.0, 5.0).write(path)
    document.write_text("nothing\n")
    assert main(["--table", str(path), "--into", str(document)]) == 1
    assert "no <!-- bench -->" in capsys.readouterr().err
    assert document.read_text() == "nothing\n"


def test_what_is_no_table_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--table", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err


def figures(directory: Path, workload: str) -> dict[str, dict[str, Any]]:
    """Read the figures of all peers off what a run has left."""
    document = json.loads((directory / "results.json").read_text())
    peers: dict[str, dict[str, Any]] = document["workloads"][workload]["peers"]
    return peers


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_run_leaves_every_figure(tmp_path: Path) -> None:
    """No time is looked at: only that there is one, and what cannot be noise."""
    if not shutil.which("weston"):
        pytest.skip("needs weston: apt-get install weston")
    assert main(["--quick", "--only", "frames-64", "--out", str(tmp_path)]) == 0
    peers = figures(tmp_path, "frames-64")
    assert {"direct", "wlproxy"} <= peers.keys()
    waypipes = {"waypipe none", "waypipe lz4"}
    assert (peers.keys() >= waypipes) == bool(shutil.which("waypipe"))
    for peer in peers.values():
        assert {"per_second", "p50_us", "p99_us", "idle_percent"} <= peer.keys()
        assert all(len(each["samples"]) in (1, 2) for each in peer.values())
    for name in peers.keys() - {"direct"}:
        assert {"cpu_us", "bytes_between"} <= peers[name].keys()
        for side in SIDES:
            assert peers[name][f"cpu_us.{side}"]["low"] > 0
            assert peers[name][f"peak_mib.{side}"]["low"] > 0
    assert peers["wlproxy"]["pixel_bytes_copied"]["samples"] == [0, 0]
    if shutil.which("strace"):
        for side in SIDES:
            assert peers["wlproxy"][f"system_calls.{side}"]["median"] >= 2
            assert peers["wlproxy"][f"loop_passes.{side}"]["median"] >= 1
    assert (tmp_path / "cpu.svg").is_file()
    assert "pixel bytes copied" in (tmp_path / "results.md").read_text().lower()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("workload", on_seat(""), ids=lambda each: each.name)
def test_what_takes_input_is_measured_on_sway(
    tmp_path: Path, workload: Workload
) -> None:
    for program in filter(None, ("sway", workload.app)):
        if not shutil.which(program):
            pytest.skip(f"needs {program} (Debian: sway, foot, gtk-4-examples)")
    name = workload.name
    assert main(["--quick", "--only", name, "--out", str(tmp_path)]) == 0
    peers = figures(tmp_path, name)
    assert {"direct", "wlproxy"} <= peers.keys()
    missing = json.loads((tmp_path / "results.json").read_text())["missing"]
    for waypipe in ("waypipe none", "waypipe lz4"):
        why = {waypipe, f"{name} through {waypipe}"} & missing.keys()
        assert (waypipe in peers) != bool(why)
    assert peers["wlproxy"]["pixel_bytes_copied"]["high"] == 0
    assert all(each["per_second"]["low"] > 0 for each in peers.values())
    for side in SIDES:
        assert peers["wlproxy"][f"cpu_us.{side}"]["low"] > 0


def test_without_sway_what_takes_input_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--quick", "--only", "pointer", "--out", str(tmp_path)]) == 0
    assert "there is no sway" in (tmp_path / "results.md").read_text()
