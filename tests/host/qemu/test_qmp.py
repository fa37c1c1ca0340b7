import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peers.qmp import GREETING, FakeMonitor
from wlproxy.host.errors import QmpError
from wlproxy.host.qemu import qmp
from wlproxy.host.qemu.qmp import (
    MappedRam,
    QmpClient,
    RamBlock,
    parse_memory_map,
    parse_ram_blocks,
)

RAM_BLOCKS = """\
              Block Name    PSize              Offset               Used              Total                HVA  RO
             wlproxy-ram    4 KiB  0x0000000000000000 0x00000000c0000000 0x00000000c0000000 0x00007f151ffff000  rw\r
    /rom@etc/acpi/tables    4 KiB  0x00000000c0080000 0x0000000000020000 0x0000000000200000 0x00007f1625600000  ro
               /objects/b    2 MiB  0x00000000c0000000 0x0000000000040000 0x0000000000040000 0x00007f1625c00000  rw
"""

MEMORY_MAP = """\
FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-00000000ffffffff (prio 0, ram): not-this-one

FlatView #3
 AS "memory", root: system\r
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-00000000000bffff (prio 0, ram): wlproxy-ram KVM\r
  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom
  0000000000100000-000000007fffffff (prio 0, ram): wlproxy-ram @0000000000100000 KVM
  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic
  0000000100000000-000000013fffffff (prio -1, ram): wlproxy-ram @0000000080000000
"""


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeMonitor]:
    monitor = FakeMonitor(tmp_path / "qmp")
    yield monitor
    monitor.close()


def test_asks_and_skips_events(fake: FakeMonitor) -> None:
    fake.serve(GREETING, {"return": {}}, ({"event": "STOP"}, {"return": "text"}))
    with QmpClient(fake.path) as client:
        assert client.monitor("info x") == "text"
    assert fake.requests == [
        {"execute": "qmp_capabilities", "arguments": {}},
        {
            "execute": "human-monitor-command",
            "arguments": {"command-line": "info x"},
        },
    ]


def test_an_event_before_the_greeting(fake: FakeMonitor) -> None:
    """What QEMU had to tell whoever was connected before."""
    fake.serve(({"event": "RESUME"}, GREETING), {"return": {}}, {"return": "text"})
    with QmpClient(fake.path) as client:
        assert client.monitor("info x") == "text"


def test_an_fd_is_passed(fake: FakeMonitor) -> None:
    fake.serve(GREETING, {"return": {}}, {"return": {}})
    with QmpClient(fake.path) as client, Path(os.devnull).open() as file:
        client.pass_fd("mine", file.fileno())
    assert fake.requests[1] == {"execute": "getfd", "arguments": {"fdname": "mine"}}


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ([b"hello"], "JSON"),
        ([b"[]"], "QMP"),
        ([{"other": 1}], "not a QEMU monitor"),
        ([GREETING, {"error": {"class": "x"}}], "refuses qmp_capabilities"),
        ([GREETING], "broke off"),
    ],
)
def test_not_a_monitor(
    fake: FakeMonitor, answers: list[object], complaint: str
) -> None:
    fake.serve(*answers)
    with pytest.raises(QmpError, match=complaint):
        QmpClient(fake.path)


def test_answer_that_is_no_text(fake: FakeMonitor) -> None:
    fake.serve(GREETING, {"return": {}}, {"return": 7})
    with QmpClient(fake.path) as client, pytest.raises(QmpError, match="no text"):
        client.monitor("info x")


def test_endless_answer(fake: FakeMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "MAX_ANSWER", 100)
    fake.serve(b" " * 1000)
    with pytest.raises(QmpError, match="broke off"):
        QmpClient(fake.path)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(QmpError, match="-qmp unix:PATH"):
        QmpClient(tmp_path / "qmp")


def test_monitor_that_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp, "TIMEOUT", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "qmp"))
        listener.listen()
        with pytest.raises(QmpError, match="one connection at a time"):
            QmpClient(tmp_path / "qmp")


def test_memory_map_is_that_of_the_cpus() -> None:
    assert parse_memory_map(MEMORY_MAP) == [
        MappedRam(0, 0xC0000, "wlproxy-ram", 0),
        MappedRam(0x100000, 0x7FF00000, "wlproxy-ram", 0x100000),
        MappedRam(0x100000000, 0x40000000, "wlproxy-ram", 0x80000000),
    ]


def test_ram_blocks() -> None:
    blocks = parse_ram_blocks(RAM_BLOCKS)
    assert blocks[0] == RamBlock("wlproxy-ram", 0x7F151FFFF000, 0xC0000000)
    assert [block.name for block in blocks] == [
        "wlproxy-ram",
        "/rom@etc/acpi/tables",
        "/objects/b",
    ]


@given(st.text(max_size=200) | st.sampled_from([MEMORY_MAP[:250], RAM_BLOCKS[:100]]))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(QmpError):
        parse_memory_map(text)
    with pytest.raises(QmpError):
        parse_ram_blocks(text)
