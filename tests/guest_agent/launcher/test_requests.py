"""A user's launcher: one request of each kind, real commands, and an agent that is none."""

import base64
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.guest_agent.launcher.bench import ANYWHERE, Request, home
from tests.guest_agent.launcher.desktop import ENTRY, Desktop
from wlproxy.protocol.channel.launch_lines import (
    MAX_ENTRY,
    Fields,
    LineReader,
    Outcome,
)
from wlproxy_guest.launcher import command, service
from wlproxy_guest.launcher.service import RefusedError, parse, serve_agent
from wlproxy_guest.launcher.surroundings import surroundings

Ask = Callable[[], Request]


@pytest.fixture
def asked() -> Iterator[Ask]:
    requests: list[Request] = []

    def ask() -> Request:
        requests.append(Request())
        return requests[-1]

    yield ask
    for each in requests:
        each.close()


def test_a_command_runs(asked: Ask) -> None:
    request = asked()
    request.say(command=["sh", "-c", "cat; echo $WAYLAND_DISPLAY; exit 5"])
    os.write(request.stdin.fileno(), b"in\n")
    request.stdin.close()

    assert request.output() == b"in\nwayland-test\n"
    assert request.outcome() == Outcome(exited=5)


def test_a_signal_is_passed_on(asked: Ask) -> None:
    request = asked()
    request.say(command=["sh", "-c", "echo ready; exec sleep 1000"])
    assert os.read(request.stdout.fileno(), 99) == b"ready\n"

    request.say(signal=15)

    assert request.outcome() == Outcome(killed=15)


def test_all_that_a_command_has_started_is_sent_it(asked: Ask) -> None:
    request = asked()
    script = "trap '' TERM; sh -c 'echo ready; exec sleep 1000'; exit 3"
    request.say(command=["sh", "-c", script.replace("''", "'true'", 1)])
    assert os.read(request.stdout.fileno(), 99) == b"ready\n"

    request.say(signal=15)

    assert request.outcome() == Outcome(exited=3)


def test_a_host_that_goes_hangs_up(asked: Ask) -> None:
    request = asked()
    request.say(command=["sh", "-c", "echo ready; exec sleep 1000"])
    assert os.read(request.stdout.fileno(), 99) == b"ready\n"

    request.request.close()

    assert request.outcome() is None
    assert request.output() == b""


def test_a_host_that_goes_before_it_has_asked(asked: Ask) -> None:
    request = asked()
    request.request.close()

    assert request.outcome() is None


def test_a_host_that_never_asks(asked: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "REQUEST_SECONDS", 0.01)
    request = asked()

    assert request.outcome() is None


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"{}\n", b'{"command": "ls"}\n', b'{"signal": 2}\n']
)
def test_what_is_not_understood(asked: Ask, line: bytes) -> None:
    request = asked()
    request.say_bytes(line)

    outcome = request.outcome()

    assert outcome is not None
    assert outcome.exit_status == 125
    assert "does not understand" in (outcome.error or "")


def test_nonsense_after_a_request_hangs_up(asked: Ask) -> None:
    request = asked()
    request.say(command=["sh", "-c", "echo ready; exec sleep 1000"])
    assert os.read(request.stdout.fileno(), 99) == b"ready\n"

    request.say(signal=9)

    outcome = request.outcome()
    assert outcome is not None
    assert "no signal" in (outcome.error or "")
    assert request.output() == b""


@pytest.mark.parametrize(
    ("argv", "status", "why"),
    [
        (["no-such-command"], 127, "no-such-command: not found"),
        (["/"], 126, "/: Permission denied"),
        (["true", "x" * 200_000], 125, None),
    ],
)
def test_what_cannot_be_started(
    asked: Ask, argv: list[str], status: int, why: str | None
) -> None:
    request = asked()
    if why is None:
        request.say_bytes(b'{"command": ["' + b"x" * 65530)
    else:
        request.say(command=argv)

    outcome = request.outcome()

    assert outcome is not None
    assert outcome.exit_status == status
    if why is not None:
        assert outcome.error == why


def test_detached_its_streams_are_not_the_commands(asked: Ask, tmp_path: Path) -> None:
    request = asked()
    os.mkfifo(tmp_path / "fifo")
    request.say(command=["sh", "-c", f"echo $$ > {tmp_path}/fifo"], detach=True)

    pid = int((tmp_path / "fifo").read_text())
    assert request.outcome() == Outcome(started=pid)
    assert request.output() == b""
    os.waitpid(pid, 0)


def test_surroundings_are_the_users_own() -> None:
    environ = {
        "HOME": "/nowhere",
        "LANG": "C",
        "NOTIFY_SOCKET": "/x",
        "LISTEN_FDS": "1",
        "WAYLAND_DISPLAY": "wayland-7",
    }
    around = surroundings(environ, "/run/wlproxy/wayland-0")

    assert around.environ == {
        "HOME": "/nowhere",
        "LANG": "C",
        "WAYLAND_DISPLAY": "/run/wlproxy/wayland-0",
        "XDG_SESSION_TYPE": "wayland",
    }
    assert around.directory == Path("/")


# ------------------------------------------------------------------ apps


def test_an_app_is_started_as_its_entry_says(desktop: Desktop, tmp_path: Path) -> None:
    desktop.entry(
        "org.x.App",
        ENTRY.replace("sh -c true", 'sh -c "pwd" %U') + f"Path={tmp_path}\n",
    )
    request = Request(home(desktop))
    request.say(app="org.x.App")

    assert request.output() == f"{tmp_path}\n".encode()
    assert request.outcome() == Outcome(exited=0)
    request.close()


@pytest.mark.parametrize(
    ("text", "status", "why"),
    [
        (None, 127, "there is no app app"),
        (ENTRY.replace("sh -c true", "%x"), 126, "unknown field code"),
        (ENTRY + "Path=/nowhere\n", 127, "/nowhere: not found"),
    ],
)
def test_an_app_that_cannot_be_started(
    desktop: Desktop, text: str | None, status: int, why: str
) -> None:
    if text is not None:
        desktop.entry("app", text)
    request = Request(home(desktop))
    request.say(app="app", detach=True)

    outcome = request.outcome()

    assert outcome is not None
    assert outcome.exit_status == status
    assert why in (outcome.error or "")
    request.close()


def listed(desktop: Desktop, **also: bool) -> list[Fields]:
    request = Request(home(desktop))
    request.say(apps=True, **also)
    lines, found = LineReader(MAX_ENTRY), []
    lines.feed(request.output())
    while (fields := lines.next_line()) is not None:
        found.append(fields)
    assert request.outcome() == Outcome(exited=0)
    request.close()
    return found


def test_apps_are_listed(desktop: Desktop) -> None:
    desktop.icon("icons/hicolor/48x48/apps/app.png", 48, "lime")
    desktop.entry(
        "a", ENTRY + "Icon=app\nComment=Com\nCategories=System;\nStartupWMClass=A\n"
    )
    desktop.entry("b", ENTRY + "NoDisplay=true\n")
    desktop.entry("c")
    a = {
        "id": "a",
        "name": "Terminal",
        "comment": "Com",
        "categories": ["System"],
        "window": "A",
    }
    c = {"id": "c", "name": "Terminal"}

    assert listed(desktop) == [a, c]
    with_icons = listed(desktop, icons=True)
    pixels = with_icons[0].pop("pixels")
    assert isinstance(pixels, str)
    assert base64.b64decode(pixels) == b"\0\xff\0\xff" * 48 * 48
    assert with_icons == [a | {"size": 48}, c]


def test_nobody_reads_the_list(desktop: Desktop) -> None:
    for number in range(2000):
        desktop.entry(f"app{number}")
    request = Request(home(desktop))
    request.stdout.close()
    request.say(apps=True)

    assert request.outcome() == Outcome(exited=0)
    request.close()


# ------------------------------------------------------------------ the agent's side


@pytest.fixture
def agent() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_an_agent_that_hangs_up(
    agent: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, theirs = agent
    ours.close()

    serve_agent(theirs, ANYWHERE)


def test_an_agent_that_does_not_want_it(
    agent: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, theirs = agent
    ours.send(b"Rnot you")

    with pytest.raises(RefusedError, match="not you"):
        serve_agent(theirs, ANYWHERE)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_an_agent_that_passes_something_else(
    agent: tuple[socket.socket, socket.socket], tmp_path: Path, count: int
) -> None:
    """Nothing is started, and nothing stays open (which every test is checked for)."""
    ours, theirs = agent
    socket.send_fds(ours, [b"L"], [0] * count)
    ours.send(b"?")
    ours.shutdown(socket.SHUT_WR)

    serve_agent(theirs, ANYWHERE)


def test_it_waits_for_the_agent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is told once, and comes when the agent does."""
    path = tmp_path / "launch"
    waits = 0

    def listen(_: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            threading.Thread(target=refuse).start()
            listening.wait(10)

    listening = threading.Event()

    def refuse() -> None:
        with socket.socket(socket.AF_UNIX) as agent:
            agent.bind(str(path))
            agent.listen()
            listening.set()
            with agent.accept()[0] as launcher:
                launcher.send(b"Rnot you")

    monkeypatch.setattr("wlproxy_guest.launcher.service.time.sleep", listen)
    before = signal.getsignal(signal.SIGCHLD)
    try:
        status = service.main(["--agent", str(path)])
    finally:
        signal.signal(signal.SIGCHLD, before)

    assert status == 1
    said = capsys.readouterr().err
    assert said.count("waiting for the agent") == 1
    assert "turned this launcher away: not you" in said


def test_options() -> None:
    options = parse([])
    assert str(options.agent) == "/run/wlproxy-launch/socket"
    assert options.display is None  # by name, or by the path of the agent's socket
