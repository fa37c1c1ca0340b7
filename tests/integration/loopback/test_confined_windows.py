"""Windows of whole proxies that have confined themselves, each by a security context of its own."""

import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.host.conftest import running_sway
from tests.peers.app import App
from tests.peers.confined_proxy import ConfinedProxy
from tests.peers.loopback import Loopback
from tests.peers.sandbox import SandboxingCompositor
from wlproxy.host.landlock import abi

pytestmark = pytest.mark.skipif(not abi(), reason="this kernel has no Landlock")

Proxies = list[ConfinedProxy]
CONFINED = "to its own files, and no programs"
SECONDS = 30


@pytest.fixture(scope="module")
def sway() -> Iterator[Path]:
    with running_sway() as sway:
        yield sway


def proxy_of(
    loopback: Loopback, name: str, display: Path, **more: str
) -> ConfinedProxy:
    """Make a proxy whose files are in a directory of its own."""
    settings = loopback.channel.parent / "settings"
    settings.mkdir(exist_ok=True)
    policy = settings / "config.toml"
    if not policy.exists():
        policy.write_text(f"[vm.{name}]\n")
    (loopback.channel.parent / "run").mkdir(mode=0o700, exist_ok=True)
    environ = {
        "XDG_RUNTIME_DIR": str(loopback.channel.parent / "run"),
        "WAYLAND_DISPLAY": str(display),
        **more,
    }
    return ConfinedProxy(name, loopback.channel, policy, environ)


def contexts(display: Path) -> set[Path]:
    """Find the directories of security contexts."""
    return set(display.parent.glob("wlproxy-context-*"))


async def show(app: App, title: str) -> None:
    window = await app.window()
    window.role.set_title(title)
    await app.show(window.surface, app.canvas((64, 64)))


async def until_sway_shows(display: Path, *titles: str) -> None:
    """Wait until sway has exactly these windows."""
    [ipc] = display.parent.glob("sway-ipc.*.sock")
    command = ["swaymsg", "-r", "-s", str(ipc), "-t", "get_tree"]
    with trio.fail_after(SECONDS):
        while True:
            done = await trio.run_process(command, capture_stdout=True)
            found = sorted(_titles(json.loads(done.stdout)))
            if found == sorted(titles):
                return
            await trio.sleep(0.01)


def _titles(node: dict[str, object]) -> Iterator[str]:
    if node.get("pid"):
        yield str(node["name"])
    for kind in ("nodes", "floating_nodes"):
        children = node[kind]
        assert isinstance(children, list)
        for child in children:
            yield from _titles(child)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def two(
    tmp_path: Path, nursery: trio.Nursery
) -> AsyncIterator[tuple[Loopback, Loopback]]:
    """The guests' sides of two VMs; no proxy runs yet."""
    async with AsyncExitStack() as stack:
        sides = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            side = Loopback(tmp_path / name, nursery)
            stack.push_async_callback(side.stop_all)
            await side.start_agent()
            sides.append(side)
        yield sides[0], sides[1]


async def start_both(
    two: tuple[Loopback, Loopback], display: Path, stack: AsyncExitStack
) -> Proxies:
    """Have a proxy for each of them, and an app that shows a window; the stack ends them."""
    proxies = []
    for side, name in zip(two, ("one", "two"), strict=True):
        proxy = proxy_of(side, name, display)
        stack.push_async_callback(proxy.end)
        proxy.start(side.ram.fd)
        proxies.append(proxy)
    for side, proxy in zip(two, proxies, strict=True):
        assert (await proxy.serving())["confined"].startswith(CONFINED)
        await show(await side.app(), "a letter")
    return proxies


@pytest.mark.parametrize("new", [False, pytest.param(True, marks=pytest.mark.lab)])
async def test_sway_shows_windows_of_two_vms(
    two: tuple[Loopback, Loopback], sway: Path, stack: AsyncExitStack, *, new: bool
) -> None:
    """Through a context each, where sway has them: the lab's is newer than 1.9."""
    proxies = await start_both(two, sway, stack)
    await until_sway_shows(sway, "[one] a letter", "[two] a letter")
    isolated = [proxy.status()["isolated"] for proxy in proxies]
    assert all(isolated) or not new, proxies[0].log.read_text()
    assert len(contexts(sway)) == sum(isolated)

    await proxies[0].end(signal.SIGKILL)
    await until_sway_shows(sway, "[two] a letter")
    proxies[0].start(two[0].ram.fd)
    await proxies[0].serving()
    await show(await two[0].app(), "another")
    await until_sway_shows(sway, "[one] another", "[two] a letter")
    for proxy in proxies:
        assert await proxy.end() == 0
    assert not contexts(sway)


async def test_a_context_each(
    two: tuple[Loopback, Loopback],
    tmp_path: Path,
    nursery: trio.Nursery,
    stack: AsyncExitStack,
) -> None:
    """One whose proxy was killed is swept up by the next."""
    display = tmp_path / "desktop" / "wayland-0"
    display.parent.mkdir()
    compositor = SandboxingCompositor(denied=())
    nursery.start_soon(compositor.run, display)
    await trio.testing.wait_all_tasks_blocked()
    proxies = await start_both(two, display, stack)
    for proxy in proxies:
        assert proxy.status()["isolated"], proxy.log.read_text()
    assert compositor.sandboxed
    before = contexts(display)
    assert len(before) == len(two)

    await proxies[0].end(signal.SIGKILL)
    proxies[0].start(two[0].ram.fd)
    await proxies[0].serving()
    await show(await two[0].app(), "another")
    after = contexts(display)
    assert len(after) == len(two)
    assert len(after & before) == 1
    for proxy in proxies:
        assert await proxy.end() == 0
    assert not contexts(display)
