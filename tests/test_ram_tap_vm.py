"""A VM beside a tap that is stopped, killed, or busy: a real QEMU, and a tiny guest."""

import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.peers.ram_tap import SECONDS, RamTap
from tests.peers.tiny_vm import MIB, TinyVm, Watch, free_huge_pages
from wlproxy.host.qemu.tapped import TapClient
from wlproxy.host.vhost_user.table import Table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("qemu-system-x86_64"), reason="no qemu-system-x86_64"
    ),
]

NEVER_LONGER = 0.1
"""Seconds for which a VM may stand still because of us."""
IO_ERROR = 1
WHILE = 1.0
"""Seconds for which a tap is stopped: ten times as long as is allowed."""


@pytest.fixture
def up() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}


@pytest.fixture
def start_tap(up: ExitStack, environ: Mapping[str, str]) -> "StartTap":
    return StartTap(up, environ)


class StartTap:
    """Starts taps, which end with the test."""

    def __init__(self, up: ExitStack, environ: Mapping[str, str]) -> None:
        self._up, self._environ = up, environ

    def __call__(self) -> RamTap:
        tap = RamTap(self._environ)
        self._up.callback(tap.end_anyhow)
        return tap


@pytest.fixture
def tap(start_tap: StartTap) -> RamTap:
    return start_tap()


@pytest.fixture
def vm(tap: RamTap, up: ExitStack, tmp_path: Path) -> TinyVm:
    vm = up.enter_context(TinyVm(tmp_path, tmp_path / "wlproxy-work.ram"))
    vm.open_ram(tap.table)
    vm.wait_counts()
    return vm


def plugged(table: Table) -> list[int]:
    """The sizes of what is not low, in MiB."""
    return sorted(each.length // MIB for each in table.regions if each.gpa >> 32)


def test_a_tap_that_is_stopped_stops_no_vm(tap: RamTap, vm: TinyVm) -> None:
    vm.ask_disk()
    assert vm.wait_answered() == IO_ERROR
    with Watch(vm) as watch:
        tap.stop()
        vm.ask_disk()
        until = time.monotonic() + WHILE
        while time.monotonic() < until:
            assert vm.qmp("query-status")["running"]
            vm.wait_counts()
        tap.go_on()
        assert vm.wait_answered() == IO_ERROR
    assert watch.longest < NEVER_LONGER


def test_a_tap_that_is_killed_stops_no_vm_and_is_found_again(
    tap: RamTap, vm: TinyVm, start_tap: StartTap
) -> None:
    with Watch(vm) as watch:
        tap.end(signal.SIGKILL)
        vm.wait_counts()
        vm.ask_disk()
        vm.wait_counts()
        again = start_tap()
        again.wait_said(f"process {vm.pid} is connected")
        assert vm.wait_answered() == IO_ERROR, "nobody kicks again"
    assert watch.longest < NEVER_LONGER
    vm.ask_disk()
    assert vm.wait_answered() == IO_ERROR


def test_memory_is_plugged_while_the_tap_is_stopped(tap: RamTap, vm: TinyVm) -> None:
    """The VMM does not wait, and a proxy sees the whole table and no part of it."""
    with TapClient(tap.table) as proxy:
        with proxy.receive() as table:
            assert plugged(table) == []
        with Watch(vm) as watch:
            tap.stop()
            for number, mib in enumerate((16, 32, 48)):
                vm.plug(f"m{number}", mib)
            vm.wait_counts()
            tap.go_on()
            with proxy.receive() as table:
                assert plugged(table) == [16, 32, 48]
        assert watch.longest < NEVER_LONGER


def test_what_is_no_sealed_memfd_is_left_out(
    tap: RamTap, vm: TinyVm, tmp_path: Path
) -> None:
    with TapClient(tap.table) as proxy:
        proxy.receive().close()
        file = tmp_path / "nvdimm"
        file.write_bytes(bytes(16 * MIB))
        kind = {"qom-type": "memory-backend-file", "mem-path": str(file)}
        vm.plug("file", 16, **kind)
        assert "16384 KiB" in tap.wait_said("left out")
        with proxy.receive() as table:
            assert (plugged(table), table.left_out) == ([], 1)
        vm.plug("memfd", 32)
        with proxy.receive() as table:
            assert (plugged(table), table.left_out) == ([32], 1)
    vm.ask_disk()
    assert vm.wait_answered() == IO_ERROR


def test_a_vm_with_huge_pages(tap: RamTap, up: ExitStack, tmp_path: Path) -> None:
    if free_huge_pages() < 8:
        pytest.skip("needs 8 free huge pages: sysctl vm.nr_hugepages=8")
    memory = "share=on,hugetlb=on,hugetlbsize=2M"
    vm = TinyVm(tmp_path, tmp_path / "wlproxy-work.ram", memory=memory)
    up.enter_context(vm)
    vm.open_ram(tap.table)
    vm.wait_counts()
    vm.ask_disk()
    assert vm.wait_answered() == IO_ERROR


@pytest.mark.parametrize("command", ["system_reset", "stop", "quit"])
def test_a_stopped_tap_is_waited_for_when_a_vm_is_reset_suspended_or_ends(
    tap: RamTap, vm: TinyVm, command: str
) -> None:
    """As any vhost-user device is; nothing is lost by it.  docs/ram-tap.md says so."""
    with ThreadPoolExecutor() as threads, Watch(vm) as watch:
        tap.stop()
        done = threads.submit(vm.qmp, command)
        until = time.monotonic() + SECONDS
        while watch.longest < WHILE and time.monotonic() < until:
            time.sleep(0.001)
        assert not done.done()
        tap.go_on()
        done.result(SECONDS)
    assert watch.longest >= WHILE
    if command == "quit":
        assert vm.process.wait(SECONDS) == 0
        return
    if command == "stop":
        vm.qmp("cont")
    vm.wait_counts()
    vm.ask_disk()
    assert vm.wait_answered() == IO_ERROR


def test_a_stopped_tap_keeps_no_vm_from_being_killed(tap: RamTap, vm: TinyVm) -> None:
    tap.stop()
    vm.process.kill()
    assert vm.process.wait(SECONDS) == -signal.SIGKILL
    tap.go_on()
    tap.wait_said(f"process {vm.pid} has hung up")
