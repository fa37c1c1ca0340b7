"""Commands in the guest: `wlproxy exec`, the proxy, the agent and a launcher, all real."""

import json
import os
import pty
import pwd
import signal
import socket
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryFile

import pytest
import trio
import trio.testing
from PIL import Image

from tests.guest_agent.launcher.desktop import Desktop
from tests.peers.app import App
from tests.peers.launching import SECONDS, Commands
from tests.peers.loopback import VM, Loopback
from wlproxy.host.errors import HostError
from wlproxy.host.launch.asking import Asked, ask
from wlproxy.host.launch.serving import MAX_ASKING
from wlproxy.host.runtime_dir import launch_path
from wlproxy.protocol.channel.launch_lines import Outcome, Request
from wlproxy.transport.fd_stream import connect_unix
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.launcher.entries import read_entry

ME = pwd.getpwuid(os.getuid()).pw_name
LARGE = bytes(range(256)) * 8192
"""2 MiB: more than all windows and pipes hold."""


@pytest.fixture
async def unstarted(bare: Loopback, tmp_path: Path) -> AsyncIterator[Commands]:
    """Nothing runs yet."""
    commands = Commands(bare, tmp_path)
    yield commands
    await commands.close()


@pytest.fixture
async def commands(unstarted: Commands) -> Commands:
    """Everything runs, and a launcher."""
    await unstarted.start()
    await unstarted.start_launcher(OF_THE_GUEST="its own")
    return unstarted


async def read_line(process: trio.Process) -> bytes:
    assert process.stdout is not None
    line = b""
    with trio.fail_after(SECONDS):
        while not line.endswith(b"\n"):
            line += (data := await process.stdout.receive_some())
            assert data, line
    return line


async def end(process: trio.Process) -> int:
    with trio.fail_after(SECONDS):
        return await process.wait()


def runs(pid: int) -> bool:
    """Whether a process is there, and no zombie: there may be no init that waits for it."""
    try:
        state = Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def gone(pid: int) -> None:
    with trio.fail_after(SECONDS):
        while runs(pid):  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.005)


# ------------------------------------------------------------------ what crosses


async def test_output_errors_and_status_come_back(commands: Commands) -> None:
    done = await commands.run(VM, "--", "sh", "-c", "echo out; echo err >&2; exit 7")

    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


async def test_input_goes_there_and_its_end(commands: Commands) -> None:
    done = await commands.run(VM, "--", "cat", stdin=LARGE)

    assert done.returncode == 0
    assert done.stdout == LARGE


async def test_arguments_arrive_as_they_are(commands: Commands) -> None:
    odd = ["", "a b", "--", "-n", "$HOME", "ü\n", os.fsdecode(b"\xff")]

    done = await commands.run(VM, "--", "printf", "%s|", *odd)

    assert done.stdout == b"|".join([*map(os.fsencode, odd), b""])


async def test_the_environment_is_the_guests(commands: Commands) -> None:
    done = await commands.run(VM, "--", "env", "-0")

    found = dict(line.split(b"=", 1) for line in done.stdout.split(b"\0") if line)
    assert found[b"OF_THE_GUEST"] == b"its own"
    assert b"OF_THE_HOST" not in found
    assert found[b"WAYLAND_DISPLAY"].decode() == str(commands.loopback.display)
    assert found[b"XDG_SESSION_TYPE"] == b"wayland"


async def test_it_begins_in_the_users_home(commands: Commands) -> None:
    done = await commands.run(VM, "--", "pwd")

    assert Path(done.stdout.decode().strip()) == commands.home


async def test_a_command_that_is_not_there(commands: Commands) -> None:
    done = await commands.run(VM, "--", "no-such-command")

    assert done.returncode == 127
    assert done.stderr == b"wlproxy: in testvm: no-such-command: not found\n"


async def test_a_command_that_cannot_be_run(commands: Commands) -> None:
    done = await commands.run(VM, "--", "/")

    assert done.returncode == 126
    assert b"Permission denied" in done.stderr


async def test_a_command_that_is_killed(commands: Commands) -> None:
    done = await commands.run(VM, "--", "sh", "-c", "kill -USR1 $$")

    assert done.returncode == 128 + signal.SIGUSR1


async def test_more_than_can_be_asked_for(commands: Commands) -> None:
    done = await commands.run(VM, "--", "echo", "x" * 70_000)

    assert done.returncode == 125
    assert b"limit 65536" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signals_reach_the_command(
    commands: Commands, number: signal.Signals
) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
    process = await commands.begin(VM, "--", "sh", "-c", script)
    assert await read_line(process) == b"ready\n"

    process.send_signal(number)

    assert await read_line(process) == b"got\n"
    assert await end(process) == 3


async def test_a_terminal_is_read_line_by_line_and_left_as_it_was(
    commands: Commands,
) -> None:
    ours, theirs = pty.openpty()
    with OwnedFd(ours) as terminal, OwnedFd(theirs) as slave:
        before = termios.tcgetattr(slave.fileno())
        process = await commands.begin(VM, "--", "head", "-n1", stdin=slave.fileno())
        os.write(terminal.fileno(), b"typed\n")

        assert await read_line(process) == b"typed\n"
        assert await end(process) == 0
        assert termios.tcgetattr(slave.fileno()) == before
        assert os.get_blocking(slave.fileno())


async def test_a_signal_passes_input_that_nobody_reads(commands: Commands) -> None:
    process = await commands.begin(VM, "--", "sh", "-c", "echo ready; exec sleep 1000")
    assert await read_line(process) == b"ready\n"
    assert process.stdin is not None
    with trio.move_on_after(0.3):  # until all pipes are full
        await process.stdin.send_all(LARGE)

    process.send_signal(signal.SIGTERM)

    assert await end(process) == 128 + signal.SIGTERM


async def test_several_at_once_do_not_mix(commands: Commands) -> None:
    outputs: dict[int, bytes] = {}

    async def run(number: int) -> None:
        done = await commands.run(
            VM, "--", "sh", "-c", f"cat; echo {number}", stdin=b"in "
        )
        outputs[number] = done.stdout

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(run, number)

    assert outputs == {each: b"in %d\n" % each for each in range(4)}


async def test_detached_it_goes_on(commands: Commands, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    done = await commands.run("-d", VM, "--", "sh", "-c", f"echo alive > {fifo}")

    assert (done.returncode, done.stdout) == (0, b"")
    assert await trio.to_thread.run_sync(fifo.read_bytes) == b"alive\n"


# ------------------------------------------------------------------ who goes first


async def test_a_command_whose_host_has_gone_is_hung_up_on(commands: Commands) -> None:
    process = await commands.begin(VM, "--", "sh", "-c", "echo $$; exec sleep 1000")
    pid = int(await read_line(process))

    process.kill()

    await gone(pid)


async def test_a_reader_that_has_gone_ends_a_flood(commands: Commands) -> None:
    process = await commands.begin(VM, "--", "sh", "-c", "echo $$; exec yes")
    pid = int((await read_line(process)).split()[0])
    assert process.stdout is not None

    await process.stdout.aclose()

    assert await end(process) == 128 + signal.SIGPIPE
    await gone(pid)


@pytest.mark.parametrize("is_read", [True, False])
async def test_a_flood_keeps_no_app_waiting(commands: Commands, is_read: bool) -> None:
    process = await commands.begin(VM, "--", "sh", "-c", "echo $$; exec yes")
    await read_line(process)

    async def read_all() -> None:
        assert process.stdout is not None
        async for _ in process.stdout:
            pass

    async with trio.open_nursery() as nursery:
        if is_read:
            nursery.start_soon(read_all)
        app = await commands.loopback.app()
        for _ in range(20):
            with trio.fail_after(SECONDS):
                await app.roundtrip()
        process.send_signal(signal.SIGTERM)
        if not is_read:
            nursery.start_soon(read_all)
        assert await end(process) == 128 + signal.SIGTERM


async def test_what_runs_goes_on_without_its_launcher(commands: Commands) -> None:
    process = await commands.begin(VM, "--", "sh", "-c", "echo ready; read x; exit $x")
    assert await read_line(process) == b"ready\n"
    (launcher, _) = commands.processes

    launcher.kill()
    await commands.loopback.until(lambda: not commands.users())
    assert process.stdin is not None
    await process.stdin.send_all(b"9\n")

    assert await end(process) == 9
    done = await commands.run(VM, "--", "true")
    assert done.returncode == 125
    assert b"nobody in the guest runs a launcher" in done.stderr


async def test_a_launcher_comes_back(commands: Commands) -> None:
    commands.processes[0].kill()
    await commands.loopback.until(lambda: not commands.users())

    await commands.start_launcher()

    assert (await commands.run(VM, "--", "echo", "again")).stdout == b"again\n"


async def test_an_agent_that_stops_takes_what_runs_along(commands: Commands) -> None:
    process = await commands.begin(VM, "--", "sh", "-c", "echo $$; exec sleep 1000")
    pid = int(await read_line(process))

    await commands.loopback.agent.stop()
    await commands.loopback.stop("agent")

    assert await end(process) == 125
    await gone(pid)


async def test_a_launcher_finds_the_next_agent(commands: Commands) -> None:
    await commands.loopback.stop("agent")
    await commands.loopback.until(lambda: not commands.users())

    await commands.start_agent()
    await commands.loopback.until(commands.users)

    assert (await commands.run(VM, "--", "echo", "again")).stdout == b"again\n"


async def test_a_launcher_is_offered_to_the_next_session(commands: Commands) -> None:
    await commands.loopback.stop("host")
    done = await commands.run(VM, "--", "true")
    assert done.returncode == 125
    assert b"no proxy serves commands for testvm" in done.stderr

    await commands.loopback.start_host(status=commands.status)
    await commands.loopback.until(commands.users)

    assert (await commands.run(VM, "--", "echo", "again")).stdout == b"again\n"


# ------------------------------------------------------------------ who may


async def test_the_host_may_name_the_user(commands: Commands) -> None:
    assert commands.users() == [ME]

    assert (await commands.run("--user", ME, VM, "--", "true")).returncode == 0
    done = await commands.run("--user", "nobody-else", VM, "--", "true")

    assert done.returncode == 125
    assert b"'nobody-else' of the guest has no launcher running" in done.stderr


async def test_without_a_launcher(unstarted: Commands) -> None:
    await unstarted.start()

    done = await unstarted.run(VM, "--", "true")

    assert done.returncode == 125
    assert b"systemctl --user enable --now wlproxy-launcher" in done.stderr


async def test_an_agent_that_lets_no_launcher_in(unstarted: Commands) -> None:
    """The bit is not there, and neither is anything else."""
    await unstarted.loopback.start_compositor()
    await unstarted.loopback.start_agent()
    await unstarted.loopback.start_host(status=unstarted.status)

    done = await unstarted.run(VM, "--", "true")

    assert done.returncode == 125
    assert b"nobody in the guest runs a launcher" in done.stderr


async def test_a_host_that_does_not_offer_it(
    unstarted: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    """The launcher is connected, and the host does not hear of it."""
    await unstarted.loopback.start_compositor()
    await unstarted.start_agent()
    await unstarted.loopback.start_host(status=unstarted.status, may_exec=False)
    caplog.set_level("INFO", "wlproxy_guest")
    with socket.socket(socket.AF_UNIX) as launcher:
        launcher.connect(str(unstarted.socket))
        await unstarted.loopback.until(
            lambda: f"launcher of {ME} is there" in caplog.text
        )
        app = await unstarted.loopback.app()
        await app.roundtrip()

    assert unstarted.users() == []
    assert not unstarted.status.with_suffix(".exec").exists()


async def test_a_user_whose_launcher_is_not_let_in(unstarted: Commands) -> None:
    await unstarted.start("somebody-else")
    with socket.socket(socket.AF_UNIX) as launcher:
        launcher.connect(str(unstarted.socket))
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(launcher.dup()))
        said = b""
        with trio.fail_after(SECONDS):
            while data := await stream.receive_some():
                said += data
        await stream.aclose()

    assert said.startswith(b"Rthe agent lets no launcher of ")
    assert unstarted.users() == []


async def test_one_launcher_for_each_user(commands: Commands) -> None:
    second = await commands.open_launcher()

    assert await end(second) == 1
    assert commands.users() == [ME]


# ------------------------------------------------------------------ hostile launchers


async def hostile(commands: Commands) -> socket.socket:
    launcher = socket.socket(socket.AF_UNIX)
    launcher.connect(str(commands.socket))
    await commands.loopback.until(commands.users)
    return launcher


async def passed(launcher: socket.socket) -> list[int]:
    with trio.fail_after(SECONDS):
        await trio.lowlevel.wait_readable(launcher)
    _, fds, _, _ = socket.recv_fds(launcher, 1, 5)
    return fds


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"exited": 256}\n',
        b'{"exited": true}\n',
        b'{"killed": 0}\n',
        b'{"error": 5}\n',
        b"x" * 70_000,
        b'{"exited": ' + b"9" * 5000 + b"}\n",
    ],
)
async def test_answers_that_are_none(unstarted: Commands, answer: bytes) -> None:
    await unstarted.start()
    with await hostile(unstarted) as launcher:
        process = await unstarted.begin(VM, "--", "true")
        fds = await passed(launcher)

        def say() -> None:
            with suppress(BrokenPipeError):  # enough was heard already
                for start in range(0, len(answer), 65536):
                    os.write(fds[1], answer[start : start + 65536])

        await trio.to_thread.run_sync(say)
        for fd in fds:
            os.close(fd)

        assert await end(process) == 125


async def test_words_of_a_launcher_do_not_reach_the_terminal_as_they_are(
    unstarted: Commands,
) -> None:
    await unstarted.start()
    with await hostile(unstarted) as launcher:

        async def answer() -> None:
            fds = await passed(launcher)
            os.write(
                fds[1], b'{"error": "\\u001b]0;pwned\\u0007\\nok", "status": 126}\n'
            )
            for fd in fds:
                os.close(fd)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            done = await unstarted.run(VM, "--", "true")

    assert done.returncode == 126
    assert done.stderr == b"wlproxy: in testvm: ]0;pwned ok\n"


async def test_a_launcher_that_takes_nothing_costs_no_app(unstarted: Commands) -> None:
    """It never reads; the host's command can be ended all the same."""
    await unstarted.start()
    with await hostile(unstarted) as launcher:
        process = await unstarted.begin(VM, "--", "true")
        with trio.fail_after(SECONDS):
            await trio.lowlevel.wait_readable(launcher)
            app: App = await unstarted.loopback.app()
            await app.roundtrip()
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                process.send_signal(number)

        assert await end(process) == 128 + signal.SIGINT


async def test_a_launcher_that_says_something_is_hung_up_on(
    unstarted: Commands,
) -> None:
    await unstarted.start()
    with await hostile(unstarted) as launcher:
        launcher.send(b"hello")

        await unstarted.loopback.until(lambda: not unstarted.users())


# ------------------------------------------------------------------ this user's programs


async def ask_here(
    commands: Commands, request: Request, stdin: bytes | None = b""
) -> tuple[Outcome, bytes, bytes]:
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin or b"")
        given.seek(0)
        numbers = [file.fileno() for file in (given, out, err)]
        asked = Asked(launch_path(commands.status), VM, None, request, *numbers)
        if stdin is None:
            asked = replace(asked, stdin=None)
        with trio.fail_after(SECONDS):
            outcome = await ask(asked)
        for file in (out, err):
            file.seek(0)
        return outcome, out.read(), err.read()


async def test_files_are_streams_too(commands: Commands) -> None:
    request = Request(command=("sh", "-c", "cat; echo err >&2; exit 3"))

    assert await ask_here(commands, request, LARGE) == (
        Outcome(exited=3),
        LARGE,
        b"err\n",
    )


async def test_no_input_is_an_empty_one(commands: Commands) -> None:
    outcome, out, _ = await ask_here(commands, Request(command=("cat",)), None)

    assert (outcome, out) == (Outcome(exited=0), b"")


async def test_a_signal_of_ours_is_the_commands(commands: Commands) -> None:
    script = "trap 'exit 4' HUP; kill -HUP $HOST; while :; do sleep 0.01; done"
    script = script.replace("$HOST", str(os.getpid()))

    outcome, _, _ = await ask_here(commands, Request(command=("sh", "-c", script)))

    assert outcome == Outcome(exited=4)


async def test_who_goes_without_a_word_is_missed(commands: Commands) -> None:
    script = "kill -KILL $PPID"

    with pytest.raises(HostError, match="the command's end is not known"):
        await ask_here(commands, Request(command=("sh", "-c", script)))


async def test_what_cannot_be_asked(commands: Commands) -> None:
    with pytest.raises(HostError, match="cannot be asked"):
        await ask_here(commands, Request())


@pytest.mark.parametrize(
    ("said", "count"),
    [
        (b"nonsense\n", 0),
        (b"{}\n", 0),
        (b"{}\n", 4),
        (b'{"user": 5}\n', 5),
        (b"x" * 70_000, 0),
    ],
    ids=range(5),
)
async def test_questions_that_are_none(
    commands: Commands, said: bytes, count: int
) -> None:
    path = launch_path(commands.status)
    stream = await connect_unix(path)
    async with stream:
        with ExitStack() as closing:
            fds = [closing.enter_context(OwnedFd(os.dup(2))) for _ in range(count)]
            await stream.send(said, fds)
        with trio.fail_after(SECONDS):
            answer, _ = await stream.receive()

    assert b"no question" in answer
    assert (await commands.run(VM, "--", "echo", "on")).stdout == b"on\n"


async def reply(commands: Commands, said: bytes, fds: Sequence[int]) -> bytes:
    """Ask with duplicates of these fds, and return the answer."""
    async with await connect_unix(launch_path(commands.status)) as stream:
        with ExitStack() as closing:
            own = [closing.enter_context(OwnedFd(os.dup(fd))) for fd in fds]
            await stream.send(said, own)
        with trio.fail_after(SECONDS):
            return (await stream.receive())[0]


async def test_what_is_no_pipe_is_not_taken(commands: Commands, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe:[1]")
    flags = os.O_RDWR | os.O_CLOEXEC
    numbers = [os.open("/dev/null", flags), os.open(tmp_path / "pipe:[1]", flags)]
    for number in numbers:
        with OwnedFd(number):
            answer = await reply(commands, b'{"user": null}\n', [number] * 5)
            assert b"pipes, and nothing else" in answer
    assert (await commands.run(VM, "--", "echo", "on")).stdout == b"on\n"


async def test_fds_without_end_are_no_question(commands: Commands) -> None:
    reader, writer = map(OwnedFd, os.pipe2(os.O_CLOEXEC))
    with reader:
        with writer:
            answer = await reply(commands, b"{", [writer.fileno()] * 6)
        assert b"no question" in answer
        with trio.fail_after(SECONDS):
            await trio.lowlevel.wait_readable(reader.fileno())
        assert os.read(reader.fileno(), 1) == b""  # all have been closed


@pytest.mark.parametrize("user", ["\u00e9" * 10_900, "x" * 257])
async def test_a_long_name_costs_one_question(commands: Commands, user: str) -> None:
    done = await commands.run("--user", user, VM, "--", "true")

    assert done.returncode == 125
    assert b"256 characters" in done.stderr
    assert commands.loopback.status()["metrics"]["bugs"] == 0
    assert (await commands.run(VM, "--", "echo", "on")).stdout == b"on\n"


async def test_a_name_that_is_no_text(commands: Commands) -> None:
    done = await commands.run("--user", os.fsdecode(b"\xff" * 200), VM, "--", "true")

    assert done.returncode == 125
    assert b"has no launcher running" in done.stderr


async def test_a_name_that_does_not_fit_into_a_line(commands: Commands) -> None:
    done = await commands.run("--user", "x" * 70_000, VM, "--", "true")

    assert done.returncode == 125
    assert b"limit 65536" in done.stderr


async def test_whoever_says_nothing_is_left(commands: Commands) -> None:
    path = launch_path(commands.status)
    async with await connect_unix(path):
        pass
    silent = [await connect_unix(path) for _ in range(MAX_ASKING + 1)]
    with trio.fail_after(SECONDS):
        assert (await silent[-1].receive())[0] == b""
    for stream in silent:
        stream.close()
    await trio.testing.wait_all_tasks_blocked()

    assert (await commands.run(VM, "--", "echo", "on")).stdout == b"on\n"


async def test_the_socket_is_this_users_alone(commands: Commands) -> None:
    path = launch_path(commands.status)
    assert path.stat().st_mode & 0o777 == 0o600

    await commands.loopback.stop("host")

    assert not path.exists()


@pytest.mark.parametrize("agent", [True, False])
async def test_before_there_is_a_session(unstarted: Commands, agent: bool) -> None:
    """The VM is off; or it is up, and its agent is not."""
    await unstarted.loopback.start_compositor()
    if not agent:
        unstarted.loopback.port.close()
    await unstarted.loopback.start_host(status=unstarted.status)

    done = await unstarted.run(VM, "--", "true")

    assert done.returncode == 125
    said = b"waiting for the guest agent" if agent else b"the VM is off"
    assert said in done.stderr


# ------------------------------------------------------------------ apps


@pytest.fixture
async def desktop(unstarted: Commands, tmp_path: Path) -> Desktop:
    """A guest whose user has apps."""
    desktop = Desktop(tmp_path / "guest")
    desktop.icon("icons/hicolor/64x64/apps/org.x.Cat.png", 64, "orange")
    entry = "[Desktop Entry]\nType=Application\nIcon=org.x.Cat\nName=Cat\n"
    desktop.entry("org.x.Cat", f'{entry}Exec=sh -c "echo meow > {tmp_path}/fifo"\n')
    desktop.entry("b\u00e4d", f"{entry}Exec=true\n")
    os.mkfifo(tmp_path / "fifo")
    await unstarted.start()
    await unstarted.start_launcher(**desktop.environ)
    return desktop


async def apps(commands: Commands, *arguments: str) -> "CompletedProcess[bytes]":
    return await commands.run(*arguments, name="apps")


async def test_apps_are_listed(unstarted: Commands, desktop: Desktop) -> None:
    done = await apps(unstarted, VM)

    assert done.stdout == b"org.x.Cat  Cat\n"
    assert done.stderr == b"1 apps with impossible ids are left out\n"
    listed = json.loads((await apps(unstarted, VM, "--json")).stdout)
    assert [each["id"] for each in listed] == ["org.x.Cat"]


async def test_an_app_is_exported_started_and_removed(
    unstarted: Commands, desktop: Desktop, tmp_path: Path
) -> None:
    done = await apps(unstarted, VM, "--export")
    assert done.stdout == b"1 written, 0 as they were, 0 removed\n"
    name = f"wlproxy.{VM}.org.x.Cat"
    (icon,) = unstarted.data.glob("icons/hicolor/64x64/apps/*.png")
    assert icon.stem == name
    with Image.open(icon) as image:
        assert image.getcolors() == [(64 * 64, (255, 165, 0, 255))]

    path = unstarted.data / "applications" / f"{name}.desktop"
    argv = read_entry(name, path).argv()
    assert argv[-5:] == ["wlproxy", "exec", VM, "--app", "org.x.Cat"]
    with trio.fail_after(SECONDS):
        await trio.run_process(argv, env=unstarted.environ())
        fifo = tmp_path / "fifo"
        assert await trio.to_thread.run_sync(fifo.read_bytes) == b"meow\n"

    done = await apps(unstarted, VM, "--export")
    assert done.stdout == b"0 written, 1 as they were, 0 removed\n"
    await unstarted.loopback.stop("host")
    done = await apps(unstarted, VM, "--remove")
    assert done.stdout == b"1 removed\n"
    assert not path.exists()


async def test_an_app_that_is_not_there(unstarted: Commands, desktop: Desktop) -> None:
    done = await unstarted.run(VM, "--app", "org.x.Dog")

    assert done.returncode == 127
    assert done.stderr == b"wlproxy: in testvm: there is no app org.x.Dog\n"


async def test_a_list_that_has_no_end(unstarted: Commands) -> None:
    """The launcher is hostile; whoever asked does not take it all."""
    await unstarted.start()
    with await hostile(unstarted) as launcher:

        async def flood() -> None:
            fds = await passed(launcher)
            line = b'{"id": "a%d", "name": "A"}\n'
            with suppress(BrokenPipeError), ExitStack() as closing:
                for fd in fds:
                    closing.callback(os.close, fd)
                for number in range(0, 1_000_000, 100):
                    some = b"".join(line % (number + each) for each in range(100))
                    await trio.to_thread.run_sync(os.write, fds[3], some)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            done = await apps(unstarted, VM)

    assert done.returncode == 1
    assert b"there is no end of apps" in done.stderr
