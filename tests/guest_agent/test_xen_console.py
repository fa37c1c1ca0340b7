"""A console as the wire: raw, and without a hang-up.  A terminal of the kernel's stands for it."""

import os
import pty
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from wlproxy_guest import xen_console
from wlproxy_guest.vsock import VsockPort
from wlproxy_guest.wire import HostGoneError, Port, UnixSocket
from wlproxy_guest.xen_console import (
    SILENCE,
    XenConsole,
    open_raw,
    parse_source,
)

EVERY_BYTE = bytes(range(256))


class Console:
    """Attributes:
    path: of our end.
    host: fd of the other, which never hangs up.
    """

    def __init__(self) -> None:
        self.host, self._kept = pty.openpty()
        self.path = os.ttyname(self._kept)

    def close(self) -> None:
        os.close(self.host)
        os.close(self._kept)


@pytest.fixture
def console() -> Iterator[Console]:
    made = Console()
    yield made
    made.close()


async def test_every_byte_passes_both_ways(console: Console) -> None:
    """As a terminal has them at first, half of them would be changed, or mean something."""
    wire = await XenConsole(path=console.path).open()
    os.write(console.host, EVERY_BYTE)
    data = b""
    with trio.fail_after(30):
        while len(data) < 256:
            data += await wire.receive(4096)
    assert data == EVERY_BYTE
    wire.send_at_once(EVERY_BYTE)
    with trio.fail_after(30):
        await wire.flush()
    assert os.read(console.host, 4096) == EVERY_BYTE  # and nothing was echoed
    wire.close()


async def test_the_first_wire_is_there_at_once_and_waits(
    console: Console, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody need be there yet: the agent says that it has come, and waits."""
    wire = await XenConsole(path=console.path).open()
    with trio.move_on_after(100 * SILENCE) as waited:
        await wire.receive(1)
    assert waited.cancelled_caught
    wire.close()


async def test_a_host_that_is_silent_has_gone(
    console: Console, autojump_clock: trio.testing.MockClock
) -> None:
    source = XenConsole(path=console.path)
    wire = await source.open()
    os.write(console.host, b"hello")
    assert await wire.receive(100) == b"hello"
    began = trio.current_time()
    with pytest.raises(HostGoneError, match="nothing for 60 s"):
        await wire.receive(100)
    assert trio.current_time() - began == pytest.approx(SILENCE)
    wire.close()
    # The next one is there when it says something.
    with trio.move_on_after(100 * SILENCE) as waited:
        await source.open()
    assert waited.cancelled_caught
    os.write(console.host, b"again")
    wire = await source.open()
    assert await wire.receive(100) == b"again"
    wire.close()


async def test_what_was_put_back_is_not_silence(console: Console) -> None:
    wire = await XenConsole(path=console.path).open()
    wire.unread(b"first")
    assert await wire.receive(100) == b"first"
    wire.close()


async def test_a_device_that_goes(console: Console) -> None:
    wire = await XenConsole(path=console.path).open()
    os.close(console.host)
    with pytest.raises(HostGoneError):
        await wire.receive(100)
    wire.close()
    console.host = os.open("/dev/null", os.O_RDONLY)


async def test_a_file_is_no_console(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    (tmp_path / "hvc1").touch()
    with trio.move_on_after(10):
        await XenConsole(path=str(tmp_path / "hvc1")).open()
    assert len(caplog.records) == 1
    assert "hvc1" in caplog.text


def test_what_is_no_terminal_is_closed_again(tmp_path: Path) -> None:
    (tmp_path / "hvc1").touch()
    with pytest.raises(OSError, match="ioctl"):
        open_raw(str(tmp_path / "hvc1"))


def test_it_is_raw_and_nobodys_controlling_terminal(console: Console) -> None:
    with open_raw(console.path) as fd:
        flags = termios.tcgetattr(fd.fileno())
        assert not flags[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        assert not os.get_inheritable(fd.fileno())
        assert not os.get_blocking(fd.fileno())


@pytest.fixture
def opened(console: Console, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which paths are opened; each is the test's console."""
    paths: list[str] = []

    def note(path: str) -> object:
        paths.append(path)
        return open_raw(console.path)

    monkeypatch.setattr(xen_console, "open_raw", note)
    return paths


async def test_xenstore_says_which_console_it_is(
    opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    consoles = {"org.wlproxy.7": 4}
    monkeypatch.setattr(xen_console, "find_console", consoles.get)
    source = XenConsole(name="org.wlproxy.7")
    (await source.open()).close()
    assert opened == ["/dev/hvc4"]
    assert str(source) == "Xen's channel org.wlproxy.7"


async def test_where_xenstore_may_not_be_read_it_is_the_usual_one(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: str) -> int:
        raise PermissionError(13, "Permission denied")

    caplog.set_level("INFO")
    monkeypatch.setattr(xen_console, "find_console", refuse)
    (await XenConsole().open()).close()
    assert opened == ["/dev/hvc1"]
    assert "--port" in caplog.text


async def test_a_domain_without_the_channel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(xen_console, "find_console", lambda _: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(XenConsole().open)
        with trio.fail_after(30):
            while "wlproxy xl-cfg" not in caplog.text:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()


def test_what_port_may_be(tmp_path: Path) -> None:
    (tmp_path / "type").write_text("xen\n")
    xen, other = tmp_path / "type", tmp_path / "none"
    for text, kind, wanted in (
        ("org.wlproxy.0", xen, XenConsole),
        ("org.wlproxy.0", other, Port),
        ("/dev/hvc2", other, XenConsole),
        ("/dev/vport0p1", xen, Port),
        ("unix:/s", xen, UnixSocket),
    ):
        source = parse_source(text, kind)
        assert type(source) is wanted
        assert not isinstance(source, VsockPort)
