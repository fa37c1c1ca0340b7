"""A whole proxy that has confined itself: `ask`, reloading, its status, and a start after another."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.loopback.test_asking import app_in_use, offered, pasted, receive
from tests.integration.loopback.test_confined_windows import CONFINED, proxy_of, show
from tests.integration.loopback.test_selections import read_all
from tests.peers.confined_proxy import ConfinedProxy
from tests.peers.loopback import VM, Loopback
from tests.peers.notifying import NotifyingDesktop, notifying_desktop
from wlproxy.host.landlock import abi

pytestmark = pytest.mark.skipif(not abi(), reason="this kernel has no Landlock")


@pytest.fixture
async def desktop(tmp_path: Path) -> AsyncIterator[NotifyingDesktop]:
    async with notifying_desktop(tmp_path) as desktop:
        yield desktop


@pytest.fixture
async def asking(
    bare: Loopback, desktop: NotifyingDesktop
) -> AsyncIterator[ConfinedProxy]:
    """A proxy at the test's compositor, whose policy is to ask."""
    await bare.start_compositor()
    await bare.start_agent()
    proxy = proxy_of(bare, VM, bare.compositor_path, **desktop.environ)
    policy = bare.channel.parent / "settings" / "config.toml"
    policy.write_text(f'[vm.{VM}.policy]\nclipboard.direction = "ask"\n')
    proxy.start(bare.ram.fd)
    assert (await proxy.serving())["confined"].startswith(CONFINED)
    yield proxy
    await proxy.end()


@pytest.mark.parametrize("user", ["allow", "refuse"])
async def test_it_asks_and_hears_the_answer(
    asking: ConfinedProxy, bare: Loopback, desktop: NotifyingDesktop, user: str
) -> None:
    desktop.user = user
    app = await app_in_use(bare)
    theirs, offer = await offered(app, bare)
    reading = await receive(app, theirs)
    if user == "allow":
        await pasted(bare, offer, reading)
    else:
        assert await read_all(reading) == b""
        assert not offer.state
    [shown] = desktop.shown
    assert shown.summary == f"{VM}: paste from the host?"
    assert "cannot ask" not in asking.log.read_text()


@pytest.mark.parametrize("replaced", [False, True])
async def test_the_policy_is_read_again(
    asking: ConfinedProxy, bare: Loopback, replaced: bool
) -> None:
    """At a signal, too, and if an editor has put another file into its place."""
    policy = bare.channel.parent / "settings" / "config.toml"

    def write(direction: str) -> None:
        new = policy.with_suffix(".new") if replaced else policy
        new.write_text(f'[vm.{VM}.policy]\nclipboard.direction = "{direction}"\n')
        new.replace(policy)

    assert "the policy is as it was" in await asking.command("reload")
    write("off")
    assert 'clipboard.direction = "off"' in await asking.command("reload")
    write("both")
    asking.hang_up()
    await bare.until(lambda: 'clipboard.direction = "both"' in asking.log.read_text())


async def test_its_status_is_told(asking: ConfinedProxy, bare: Loopback) -> None:
    await bare.app()
    said = json.loads(await asking.command("status", "--json"))
    assert CONFINED in json.dumps(said)
    assert CONFINED in await asking.command("status")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_one_starts_after_another_has_ended(
    asking: ConfinedProxy, bare: Loopback, number: int
) -> None:
    """By itself or killed, so that its sockets are still there."""
    await asking.end(number)
    socket = Path(asking.environ["XDG_RUNTIME_DIR"]) / "wlproxy" / f"{VM}.sock"
    assert socket.exists() == (number == signal.SIGKILL)
    asking.start(bare.ram.fd)
    assert (await asking.serving())["confined"].startswith(CONFINED)
    await show(await bare.app(), "a letter")
    assert "the policy is as it was" in await asking.command("reload")
