"""A guest with systemd, the agent installed as documented, windows in mode C.

On the developer's machine itself, mostly without udmabuf and without KVM: the guest boots
once, under TCG.  Every test begins with units that are up and a proxy that serves.
"""

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab import guest_agent, nested
from lab.errors import LabError
from lab.guest import Completed, Guest
from tests.integration.harness import TREE, eventually
from tests.integration.native import (
    DISPLAY,
    HAS_UDMABUF,
    SERVICE,
    SOCKET,
    USER,
    NativeGuest,
    NativeProxy,
    NativeWeston,
    UserClient,
    documented_commands,
    documented_exposure,
)

pytestmark = [pytest.mark.native_guest, pytest.mark.slow, pytest.mark.timeout(600)]

WIDTH, HEIGHT = 333, 200
REASON = "asked for" if HAS_UDMABUF else "there is no /dev/udmabuf"
CAP_SYS_ADMIN = 1 << 21
SECCOMP_FILTER = "2"
COMPLAINTS = re.compile(
    # Killed outright, it has failed, but not by itself.
    r"ERROR|CRITICAL|Traceback|Failed with result '(?!signal)|status=(?!9/KILL)\d+/[A-Z]+"
)

NewClient = Callable[[], UserClient]


class JournalOfFailures:
    """Puts what the guest logged beside each failure."""

    def __init__(self, guest: NativeGuest) -> None:
        self._guest = guest

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self,
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed:
            with suppress(LabError, AssertionError, TimeoutError):
                report.sections.append(("the guest's journal", self._guest.journal()))
        return report


@pytest.fixture(scope="module")
def booted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NativeGuest]:
    """A guest that has just booted."""
    directory = tmp_path_factory.mktemp("guest")
    machine = nested.native(directory).replace(init="systemd")
    with Guest(machine) as guest:
        guest.boot()
        native = NativeGuest(guest)
        journal = JournalOfFailures(native)
        request.config.pluginmanager.register(journal)
        yield native
        request.config.pluginmanager.unregister(journal)
        guest.power_off()
    assert machine.pid() is None


@pytest.fixture(scope="module")
def native(
    booted: NativeGuest, tmp_path_factory: pytest.TempPathFactory
) -> NativeGuest:
    """The guest, once docs/guest.md has been followed in it."""
    wheels = guest_agent.build_wheels(tmp_path_factory.mktemp("wheels"))
    apt, installer, *others = documented_commands(
        TREE / "docs" / "guest.md", "## Without the package"
    )
    assert apt.startswith("apt install ")
    packages = set(apt.removeprefix("apt install ").split())
    assert "python3 -m installer" in installer
    for wheel in wheels:
        booted.guest.put(f"/root/{wheel.name}", wheel.read_bytes())
    booted.shell(f"cd /root && {installer}")
    booted.shell(f"dpkg-query --show {' '.join(sorted(packages))}")
    booted.shell("\n".join(others))
    booted.ship_clients()
    return booted


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This machine's XDG_RUNTIME_DIR."""
    directory = tmp_path_factory.mktemp("n")
    directory.chmod(0o700)
    return directory


@pytest.fixture(scope="module")
def weston(runtime: Path) -> Iterator[NativeWeston]:
    weston = NativeWeston(runtime)
    yield weston
    weston.stop()


@pytest.fixture(autouse=True)
def quiet_journal(native: NativeGuest) -> Iterator[None]:
    """The agent is up; and whatever a test does, it is no reason to complain."""
    native.systemctl("reset-failed")  # and forget how often it was started lately
    native.systemctl("start", SOCKET, SERVICE)
    yield
    complaints = [
        line for line in native.journal().splitlines() if COMPLAINTS.search(line)
    ]
    assert not complaints


@pytest.fixture
def new_proxy(
    native: NativeGuest, weston: NativeWeston, runtime: Path
) -> Iterator[Callable[[], NativeProxy]]:
    """Starts proxies, one at a time, and waits until they serve."""
    made: list[NativeProxy] = []

    def start() -> NativeProxy:
        channel = native.guest.machine.channel
        made.append(NativeProxy.start(channel, weston.display, runtime))
        made[-1].wait_state("serving")
        return made[-1]

    yield start
    for proxy in made:
        assert proxy.stop() == 0, proxy.log()[-4000:]


@pytest.fixture
def proxy(new_proxy: Callable[[], NativeProxy]) -> NativeProxy:
    return new_proxy()


@pytest.fixture
def new_client(native: NativeGuest) -> Iterator[NewClient]:
    """Starts clients of the guest's ordinary user, which end with the test."""
    made: list[UserClient] = []

    def start() -> UserClient:
        made.append(UserClient(native.guest))
        return made[-1]

    yield start
    for client in made:
        client.kill()


def open_window(client: UserClient) -> None:
    client.call("toplevel", surface="window", title="a window")
    client.call("pool", pool="pool", size=WIDTH * HEIGHT * 4 + 100, scatter=1)
    client.call(
        "buffer", buffer="one", pool="pool", width=WIDTH, height=HEIGHT, offset=100
    )


def show(weston: NativeWeston, client: UserClient, frame: int) -> None:
    """Open a window, show a frame in it, and look at that."""
    open_window(client)
    client.call("draw", buffer="one", frame=frame)
    client.call("show", surface="window", buffer="one")
    weston.wait_shows(WIDTH, HEIGHT, frame)


# ---- the units


def test_units_are_up_and_stay_enabled(native: NativeGuest) -> None:
    for unit in (SOCKET, SERVICE):
        shown = native.properties(unit, "ActiveState", "UnitFileState")
        assert shown == {"ActiveState": "active", "UnitFileState": "enabled"}


def test_it_is_started_once_it_says_that_it_is_ready(native: NativeGuest) -> None:
    assert native.properties(SERVICE, "Type") == {"Type": "notify"}
    native.systemctl("restart", SERVICE)

    said = native.journal("-o", "cat").splitlines()
    ready = max(i for i, line in enumerate(said) if "apps connect to" in line)
    started = max(i for i, line in enumerate(said) if line.startswith("Started "))
    assert ready < started
    assert DISPLAY in said[ready]


def test_it_has_one_capability_and_no_way_to_more(native: NativeGuest) -> None:
    text = native.guest.get(f"/proc/{native.main_pid()}/status").decode()
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    uid = native.shell("id -u wlproxy").strip()
    gid = native.shell("id -g wlproxy").strip()
    assert status["Uid"].split() == [uid] * 4
    assert status["Gid"].split() == [gid] * 4
    assert status["Groups"].split() == [gid]
    assert uid != "0"
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[name], 16) == CAP_SYS_ADMIN, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == SECCOMP_FILTER


def test_the_port_is_the_agents_and_the_socket_is_everybodys(
    native: NativeGuest,
) -> None:
    paths = f"/dev/virtio-ports/org.wlproxy.0 {DISPLAY}"
    assert native.shell(f"stat -Lc '%A %U %G' {paths}").splitlines() == [
        "crw-rw---- root wlproxy",
        "srw-rw-rw- root wlproxy",
    ]
    # The rule is about our port only.
    other = native.shell("stat -Lc '%A %U %G' /dev/virtio-ports/org.wlproxy.lab")
    assert other.strip() == "crw------- root root"


def test_exposure_is_as_documented(native: NativeGuest) -> None:
    said = native.shell(f"systemd-analyze security --no-pager {SERVICE}")
    found = re.search(r"Overall exposure level .*: (\d+\.\d)", said)
    assert found is not None, said

    assert float(found[1]) == documented_exposure()


@pytest.fixture
def with_module(native: NativeGuest) -> Iterator[None]:
    """The agent as it runs where the kernel module is, as documented."""
    commands = documented_commands(
        TREE / "docs" / "guest.md", "## With the kernel module"
    )
    native.shell("\n".join(commands))
    yield
    native.shell(
        "rm /etc/systemd/system-generators/wlproxy-gem-locate && systemctl daemon-reload"
    )
    native.systemctl("restart", SERVICE)


def test_with_the_module_it_has_no_capability(
    with_module: None,
    native: NativeGuest,
    weston: NativeWeston,
    proxy: NativeProxy,
    new_client: NewClient,
) -> None:
    assert "gem-locate" in native.shell(f"ls -l /proc/{native.main_pid()}/fd")
    text = native.guest.get(f"/proc/{native.main_pid()}/status").decode()
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh"):
        assert int(status[name], 16) == 0, name
    limits = native.guest.get(f"/proc/{native.main_pid()}/limits").decode()
    assert f"Max locked memory         {4 << 30} " in limits

    said = native.shell(f"systemd-analyze security --no-pager {SERVICE}")
    found = re.search(r"Overall exposure level .*: (\d+\.\d)", said)
    assert found is not None, said
    assert float(found[1]) == documented_exposure(with_module=True)

    show(weston, new_client(), 1)


def test_the_status_text_says_whether_there_is_a_host(
    native: NativeGuest, new_proxy: Callable[[], NativeProxy]
) -> None:
    assert native.status_text() == "waiting for the host"
    proxy = new_proxy()
    showing = "showing apps on the host"
    eventually(lambda: native.status_text() == showing, "it says so")
    assert f'Status: "{showing}"' in native.systemctl("status", SERVICE)
    proxy.stop()
    eventually(lambda: native.status_text() == "waiting for the host", "it says so")


# ---- windows


def test_a_users_window_is_copied_as_it_is_damaged(
    weston: NativeWeston, proxy: NativeProxy, new_client: NewClient
) -> None:
    client = new_client()
    show(weston, client, 1)
    assert proxy.copied() == WIDTH * HEIGHT * 4

    client.call("draw", buffer="one", frame=2)  # everywhere ...
    damage = (41, 33, 120, 90)
    client.call("show", surface="window", buffer="one", damage=damage)
    x, y = weston.wait_shows(120, 90, 2, origin=(41, 33))
    # ... and still the first frame above.
    assert weston.wait_shows(WIDTH, 33, 1) == (x - 41, y - 33)

    surface = proxy.surface()
    assert surface["mode"] == "C"
    assert REASON in surface["reason"]
    assert surface["frames"] == 2
    assert (surface["width"], surface["height"]) == (WIDTH, HEIGHT)
    assert surface["title"].endswith("a window")
    assert surface["label"] == f"python3({client.pid})"
    assert surface["bytes_copied"] == (WIDTH * HEIGHT + 120 * 90) * 4
    assert "its RAM is proved" in proxy.log()
    assert "copied, mode C" in proxy.log()


def test_a_real_app_is_shown(native: NativeGuest, proxy: NativeProxy) -> None:
    pid = native.guest.spawn(
        ["weston-simple-shm"],
        env={"WAYLAND_DISPLAY": DISPLAY},
        log="/run/simple-shm.log",
        user=USER,
    )
    try:
        surfaces = eventually(
            lambda: [each for each in proxy.surfaces() if each["frames"] >= 10],
            "ten frames of it",
        )
    finally:
        native.guest.kill(pid)
    (surface,) = surfaces
    assert surface["mode"] == "C"
    assert surface["title"].endswith("simple-shm")
    size = surface["width"] * surface["height"] * 4
    assert size <= surface["bytes_copied"] <= surface["frames"] * size
    proxy.wait_no_clients()


# ---- the guest as its users meet it

DISPLAY_NAME = "wlproxy-0"
PAM_SERVICE = """\
@include common-account
@include common-session
session required pam_env.so
"""
"""What matters here of Debian's sshd, and of its display managers."""


def variables(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, equals, value in pairs if equals}


@pytest.fixture(scope="module")
def users(native: NativeGuest) -> NativeGuest:
    """The guest, with an ordinary user whose systemd runs all the time."""
    native.shell(f"loginctl enable-linger {USER}")
    state = f"systemctl is-active user@$(id -u {USER}).service || true"
    eventually(lambda: native.shell(state).strip() == "active", "it runs", 180)
    return native


def test_a_login_has_the_name_of_the_socket(users: NativeGuest) -> None:
    done = users.login('env; readlink -f "$XDG_RUNTIME_DIR/$WAYLAND_DISPLAY"')
    assert done.ok, done.stderr
    told = variables(done.stdout.decode())
    assert told["WAYLAND_DISPLAY"] == DISPLAY_NAME
    assert told["XDG_SESSION_TYPE"] == "wayland"
    assert done.stdout.decode().splitlines()[-1] == DISPLAY
    # What logind thinks is another matter: such a session has no screen.
    sessions = "loginctl show-user --value --property=Sessions"
    for session in users.shell(f"{sessions} {USER}").split():
        kind = f"loginctl show-session --value --property=Type {session}"
        assert users.shell(kind).strip() != "wayland"


@pytest.mark.parametrize(
    ("service", "expected"), [("sshd", DISPLAY_NAME), ("gdm-password", None)]
)
def test_ssh_is_told_and_desktops_are_not(
    users: NativeGuest, service: str, expected: str | None
) -> None:
    """A command by ssh reads no profile; a desktop's compositor must not find it."""
    users.guest.put(f"/etc/pam.d/{service}", PAM_SERVICE.encode())
    said = users.shell(
        f"systemd-run --quiet --wait --pipe -p PAMName={service} -p User={USER} env"
    )
    told = variables(said)
    assert told["XDG_RUNTIME_DIR"].startswith("/run/user/")
    assert told.get("WAYLAND_DISPLAY") == expected
    assert (told.get("XDG_SESSION_TYPE") == "wayland") == bool(expected)


def test_the_users_systemd_is_told(users: NativeGuest) -> None:
    done = users.login("systemctl --user show-environment")
    told = variables(done.stdout.decode())
    assert told["WAYLAND_DISPLAY"] == DISPLAY_NAME, done.stderr
    assert told["XDG_SESSION_TYPE"] == "wayland"


def findings(done: Completed) -> dict[str, str]:
    """Return the verdict on each subject."""
    table = done.stdout.decode().partition("\n\n")[0]
    heads = re.findall(r"^(ok|warning|problem) +(\S+(?: \S+)*)  ", table, re.MULTILINE)
    return {subject: verdict for verdict, subject in heads}


def test_the_doctor_finds_nothing_in_a_healthy_guest(
    users: NativeGuest, with_module: None, proxy: NativeProxy
) -> None:
    done = users.login("wlproxy-guest-agent doctor")
    said = findings(done)
    assert set(said.values()) == {"ok"}, done.stdout.decode()
    assert said.keys() >= {"port", "agent", "socket", "module", "WAYLAND_DISPLAY"}
    assert done.returncode == 0
    assert done.stderr == b""


def test_the_doctor_finds_what_is_broken(users: NativeGuest) -> None:
    port = users.shell("readlink -f /dev/virtio-ports/org.wlproxy.0").strip()
    users.shell(f"chmod 600 {port}; chmod 600 {DISPLAY}")
    users.shell(f"rm /run/user/*/{DISPLAY_NAME}")
    try:
        done = users.login("unset XDG_SESSION_TYPE; wlproxy-guest-agent doctor")
        said = findings(done)
        assert {each for each, verdict in said.items() if verdict == "problem"} == {
            *("port's rights", "socket", DISPLAY_NAME)
        }
        assert {each for each, verdict in said.items() if verdict == "warning"} == {
            *("host", "module", "XDG_SESSION_TYPE")
        }
        assert done.returncode == 1
        # What it says helps: its commands, pasted by those that they are for.
        text = done.stdout.decode()
        (link,) = (line for line in text.splitlines() if line.startswith("  ln -sfT "))
        assert users.login(link).ok
        assert "\n  udevadm trigger" in text
        rule = [line for line in text.splitlines() if line.startswith("  udevadm ")]
        users.shell("\n".join(rule))
        users.systemctl("restart", SOCKET, SERVICE)
        done = users.login("wlproxy-guest-agent doctor")
        assert done.returncode == 0, done.stdout.decode()
    finally:
        users.shell(f"chmod 660 {port}; chmod 666 {DISPLAY}")
        users.shell(
            f"find /run/user -mindepth 1 -maxdepth 1 -exec ln -sfT {DISPLAY}"
            f" {{}}/{DISPLAY_NAME} ';'"
        )


def test_an_agent_that_fails_is_tried_again_and_again(native: NativeGuest) -> None:
    """Longer than systemd lets a unit fail that does not ask for it: five times."""
    drop_in = f"/run/systemd/system/{SERVICE}.d/fails.conf"
    native.systemctl("stop", SERVICE)
    native.guest.put(drop_in, b"[Service]\nExecStartPre=false\n")
    native.systemctl("daemon-reload")
    app = native.guest.spawn(["wayland-info"], env={"WAYLAND_DISPLAY": DISPLAY})
    try:
        starts = f"journalctl -b -o cat -u {SERVICE} | grep -c 'Starting ' || true"
        before = int(native.shell(starts))
        eventually(lambda: int(native.shell(starts)) > before + 6, "it fails", 120)
        assert native.state(SOCKET) == "active"
        native.shell(f"rm {drop_in}")
        native.systemctl("daemon-reload")
        eventually(lambda: native.state(SERVICE) == "active", "it runs", 180)
    finally:
        native.guest.kill(app)
        native.shell(f"rm -f {drop_in}; systemctl daemon-reload")
        native.forget_journal()


# ---- ends and beginnings


def test_the_service_is_restarted(
    native: NativeGuest,
    weston: NativeWeston,
    proxy: NativeProxy,
    new_client: NewClient,
) -> None:
    old = new_client()
    show(weston, old, 1)
    native.systemctl("restart", SERVICE)
    assert "wlproxy: the agent was stopped" in old.call("expect_disconnect")

    proxy.wait_state("serving")
    proxy.wait_no_clients()
    show(weston, new_client(), 2)
    assert proxy.process.poll() is None


def test_the_proxy_is_restarted(
    weston: NativeWeston,
    new_proxy: Callable[[], NativeProxy],
    new_client: NewClient,
) -> None:
    proxy = new_proxy()
    old = new_client()
    show(weston, old, 1)
    assert proxy.stop() == 0
    assert "the host's proxy was stopped" in old.call("expect_disconnect")

    new_proxy()
    show(weston, new_client(), 2)


def test_the_service_is_killed_and_comes_back(
    native: NativeGuest,
    weston: NativeWeston,
    proxy: NativeProxy,
    new_client: NewClient,
) -> None:
    old = new_client()
    show(weston, old, 1)
    pid, sessions = native.main_pid(), proxy.status()["metrics"]["sessions"]
    native.systemctl("kill", "--signal=KILL", SERVICE)
    assert "Disconnected" in old.call("expect_disconnect")
    eventually(lambda: native.main_pid() not in (0, pid), "systemd starts it again")

    # Nobody told the proxy: it finds out when the new agent speaks up.
    eventually(lambda: proxy.status()["metrics"]["sessions"] > sessions, "a session")
    proxy.wait_state("serving")
    proxy.wait_no_clients()
    show(weston, new_client(), 2)


def test_the_service_is_stopped_and_an_app_starts_it_again(
    native: NativeGuest,
    weston: NativeWeston,
    proxy: NativeProxy,
    new_client: NewClient,
) -> None:
    old = new_client()
    show(weston, old, 1)
    native.systemctl("stop", SERVICE)
    assert "wlproxy: the agent was stopped" in old.call("expect_disconnect")
    assert native.state(SERVICE) == "inactive"
    assert native.state(SOCKET) == "active"
    assert native.main_pid() == 0
    proxy.wait_no_clients()

    show(weston, new_client(), 2)
    assert native.state(SERVICE) == "active"
    assert proxy.surface()["mode"] == "C"


def test_nothing_is_left_when_both_units_are_stopped(native: NativeGuest) -> None:
    pid = native.main_pid()
    native.systemctl("stop", SERVICE, SOCKET)

    assert not native.guest.alive(pid)
    assert not native.guest.run(["test", "-e", DISPLAY]).ok
