"""The agent as a process: arguments, signals, exit status, real pages."""

import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.guest_agent.fakes import PAGE, App, FakeHost, hello, opened
from tests.guest_agent.frames import sees_frames
from tests.open_fds import open_fds
from wlproxy.protocol.channel.frames import (
    RAM_TOKEN_SIZE,
    Data,
    Goodbye,
    Locate,
    Located,
    LocateStatus,
    ProveRam,
    RamProof,
)
from wlproxy_guest.cli import main, parse, stop_signals
from wlproxy_guest.quotas import MIB, half_of_ram
from wlproxy_guest.unix_socket import listen


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stays out of collections would do so for the tests that follow, too."""
    calls: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    return calls


def test_limits() -> None:
    limits = parse(["--max-clients=3", "--max-pinned-mib=4"]).limits

    assert (limits.clients, limits.pinned) == (3, 4 * MIB)
    assert limits.pinned_total == half_of_ram()


def test_one_client_gets_no_more_than_all() -> None:
    limits = parse(["--max-pinned-total-mib=5", "--max-pinned-mib=7"]).limits

    assert (limits.pinned_of_one, limits.pinned_total) == (5 * MIB, 5 * MIB)


def test_one_client_leaves_a_quarter_to_others() -> None:
    limits = parse(["--max-pinned-total-mib=8"]).limits

    assert limits.pinned_of_one == 6 * MIB


@pytest.mark.parametrize(
    ("runtime_dir", "expected"),
    [("/run/user/7", "/run/user/7/wayland-0"), ("", "/run/wlproxy/wayland-0")],
)
def test_default_socket(
    monkeypatch: pytest.MonkeyPatch, runtime_dir: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_dir)

    assert str(parse([]).socket) == expected


def test_launchers_are_let_in_only_if_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WLPROXY_LAUNCH_SOCKET", raising=False)
    assert parse([]).launch_socket is None

    monkeypatch.setenv("WLPROXY_LAUNCH_SOCKET", "/run/x/socket")
    monkeypatch.setenv("WLPROXY_LAUNCH_USERS", "ada bob")
    options = parse(["--launch-user=eve"])
    assert options.launch_socket == Path("/run/x/socket")
    assert options.launch_user == ["ada", "bob", "eve"]


def test_wrong_port(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--port=fd:x"])

    assert "--port" in capsys.readouterr().err


async def test_socket_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listener = listen(tmp_path / "wayland-0")

    assert main(["--socket", str(tmp_path / "wayland-0")]) == 1

    assert "in use" in capsys.readouterr().err
    listener.close()


@pytest.fixture
def host_end(tmp_path: Path) -> Iterator[tuple[socket.socket, subprocess.Popen[str]]]:
    """An agent's process and the host's end of its wire."""
    ours, agents = socket.socketpair()
    agent = subprocess.Popen(
        [
            *(sys.executable, "-m", "wlproxy_guest"),
            *("--socket", tmp_path / "wayland-0"),
            *("--port", f"fd:{agents.fileno()}"),
        ],
        pass_fds=[agents.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )
    agents.close()
    yield ours, agent
    agent.kill()
    agent.communicate()
    ours.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signal_stops_it_cleanly(
    tmp_path: Path,
    host_end: tuple[socket.socket, subprocess.Popen[str]],
    number: signal.Signals,
) -> None:
    connected, agent = host_end
    host = FakeHost(connected)
    await host.start(hello())

    agent.send_signal(number)

    assert (await host.expect(Goodbye)).message == "the agent stops"
    _, messages = agent.communicate(timeout=30)
    assert agent.returncode == 0, messages
    assert "Traceback" not in messages
    assert os.listdir(tmp_path) == []


async def test_signal_before_it_runs_stops_it_as_cleanly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: list[str]
) -> None:
    """One that comes between the socket and the loop."""

    def run(*_: object) -> str:
        assert frozen, "collections would look at all that was imported"
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it goes on")

    monkeypatch.setattr(trio, "run", run)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as raised:
        main(["--socket", str(tmp_path / "wayland-0")])
    assert raised.value.code == 0
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is before


FAILS_FIRST = """
import os, sys, trio
from wlproxy_guest.cli import main

def fail(*_):
    raise trio.TrioInternalError

if os.environ.setdefault("RUNS", "0") == "0":
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.dup2(int(os.environ["SOCKET"]), 3)
    os.memfd_create("left open")
    trio.run = fail
os.environ["RUNS"] += "1"
sys.exit(main())
"""
"""An agent without memory for its loop, the first time; with systemd's socket as fd 3."""


def start_failing(
    directory: Path, passed: socket.socket, *, activated: bool
) -> subprocess.Popen[str]:
    environ = {"LISTEN_FDS": str(int(activated)), "SOCKET": str(passed.fileno())}
    return subprocess.Popen(
        [
            *(sys.executable, "-c", FAILS_FIRST),
            *("--socket", directory / "wayland-0"),
            *("--port", f"unix:{directory / 'host'}"),
        ],
        env={**os.environ, **environ},
        pass_fds=[passed.fileno()],
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("activated", [False, True])
async def test_agent_without_memory_begins_anew(
    tmp_path: Path, *, activated: bool
) -> None:
    with socket.socket(socket.AF_UNIX) as port, socket.socket(socket.AF_UNIX) as passed:
        for listening, name in ((port, "host"), (passed, "systemd")):
            listening.bind(str(tmp_path / name))
            listening.listen()
        agent = start_failing(tmp_path, passed, activated=activated)
        try:
            with trio.fail_after(30):
                await trio.lowlevel.wait_readable(port)
            host = FakeHost(port.accept()[0])
            await host.start(hello())
            connecting = trio.socket.socket(socket.AF_UNIX)
            name = "systemd" if activated else "wayland-0"
            await connecting.connect(str(tmp_path / name))
            with App(connecting):
                assert await opened(host) == 1
            assert not [f for f in open_fds(agent.pid).values() if "left open" in f]
            await host.stream.aclose()
        finally:
            agent.kill()
            _, messages = agent.communicate()
    assert "the agent begins anew" in messages


def test_nohup_is_respected() -> None:
    assert signal.SIGHUP in stop_signals()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert signal.SIGHUP not in stop_signals()
    signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
async def test_host_that_hangs_up_for_good(
    host_end: tuple[socket.socket, subprocess.Popen[str]],
) -> None:
    connected, agent = host_end
    host = FakeHost(connected)
    await host.start(hello())
    await host.stream.aclose()

    _, messages = agent.communicate(timeout=30)

    assert agent.returncode == 1
    assert "the inherited fd is used up" in messages
    assert "Traceback" not in messages


@sees_frames
@pytest.mark.slow
async def test_real_pages_through_the_real_process(
    tmp_path: Path, host_end: tuple[socket.socket, subprocess.Popen[str]]
) -> None:
    connected, _ = host_end
    host = FakeHost(connected)
    await host.start(hello())
    await host.send(ProveRam(bytes(RAM_TOKEN_SIZE)))
    proof = await host.expect(RamProof)
    assert proof.status is LocateStatus.OK
    assert proof.gpa

    connecting = trio.socket.socket(socket.AF_UNIX)
    await connecting.connect(str(tmp_path / "wayland-0"))
    pool = os.memfd_create("pool")
    os.ftruncate(pool, 8100 * PAGE)
    with App(connecting) as app:
        client_id = await opened(host)
        await app.send(b"create_pool", pool)
        (attachment,) = (await host.expect(Data)).attachments
        await host.send(Locate(client_id, 1, attachment.object_id, 0, 8100 * PAGE, 0))
        pages = 0
        while pages < 8100:
            located = await host.expect(Located)
            assert located.status is LocateStatus.OK
            pages += sum(extent.length for extent in located.extents) // PAGE
    assert pages == 8100
    os.close(pool)
