"""udev's word about /dev/udmabuf, from a monitor of the test's and from the real one."""

import socket
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import pyudev
import trio
import trio.testing

from wlproxy.host.desktop.desktop import Desktop
from wlproxy.host.desktop.udmabuf_watch import DeviceWatch
from wlproxy.host.errors import SecurityContextError, UdmabufMissingError
from wlproxy.host.report.vm_log import VmLog
from wlproxy.relay.capabilities import CompositorCapabilities


class Monitor:
    """A netlink monitor whose events the test makes up."""

    def __init__(self) -> None:
        self.reader, self.writer = socket.socketpair()
        self.devices: deque[str] = deque()
        self.started = False

    def event(self, name: str) -> None:
        self.devices.append(name)
        self.writer.send(b"x")

    def filter_by(self, subsystem: str) -> None:
        assert subsystem == "misc"

    def start(self) -> None:
        self.started = True

    def fileno(self) -> int:
        return self.reader.fileno()

    def poll(self, timeout: float) -> SimpleNamespace | None:
        assert timeout == 0
        if not self.devices:
            return None
        self.reader.recv(1)
        return SimpleNamespace(sys_name=self.devices.popleft())


async def test_only_the_device_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Monitor()
    monkeypatch.setattr(
        pyudev.Monitor, "from_netlink", lambda _context, source: monitor
    )
    watch = DeviceWatch()
    assert monitor.started
    seen = []

    async def wait() -> None:
        await watch.wait()
        seen.append("udmabuf")

    with monitor.reader, monitor.writer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            monitor.event("kvm")
            await trio.testing.wait_all_tasks_blocked()
            assert not seen
            monitor.event("udmabuf")
        assert seen == ["udmabuf"]


async def test_the_real_monitor_can_be_waited_for() -> None:
    watch = DeviceWatch()
    with trio.move_on_after(0):
        await watch.wait()


async def test_copies_are_warned_of_once_a_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = Desktop("test", str(tmp_path / "wayland-0"), VmLog("test"))
    none = CompositorCapabilities(shm_udmabuf=False, shm_udmabuf_reason="no device")
    for _ in range(2):
        there.say_if_copied(none)
    assert caplog.text.count("no zero-copy: no device") == 1
    there.say_if_copied(replace(none, shm_udmabuf=True, shm_udmabuf_reason=""))
    there.say_if_copied(replace(none, dmabuf_stride_alignment={1: 4}))
    assert caplog.text.count("zero-copy") == 1
    there.say_if_copied(none)
    assert caplog.text.count("no zero-copy: no device") == 2


async def test_a_device_that_comes_later_is_tried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[object] = []
    probed: list[bool] = []

    class Device:
        def __init__(self) -> None:
            if not made:
                raise UdmabufMissingError("there is no /dev/udmabuf")

        def close(self) -> None:
            made.clear()

    def no_context(*_: object) -> None:
        raise SecurityContextError("none in this test")

    def probe(_path: Path, device: object, _why: str) -> CompositorCapabilities:
        probed.append(device is not None)
        return CompositorCapabilities(shm_udmabuf=device is not None)

    monkeypatch.setattr("wlproxy.host.desktop.desktop.UdmabufDevice", Device)
    monkeypatch.setattr("wlproxy.host.desktop.desktop.SecurityContext", no_context)
    path = tmp_path / "wayland-0"
    there = Desktop("test", str(path), VmLog("test"), probe)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        caplog.set_level("INFO")
        await there.prepare()
        assert probed == [False]
        assert not await there.find_device()
        assert caplog.text.count("no udmabuf") == 1
        assert "zero-copy" not in caplog.text  # a domain of Xen's needs none

        made.append(Device)
        assert await there.find_device()
        assert probed == [False, True]
        there.close()
    assert not made
