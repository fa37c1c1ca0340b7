"""An app, the agent, the proxy and a compositor, all real and in one thread."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.peers.app import App
from tests.peers.compositor import Compositor
from tests.peers.loopback import Loopback

Start = Callable[..., Awaitable[Loopback]]


@pytest.fixture(autouse=True)
def no_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests is asked nothing."""
    nowhere = "unix:path=/nonexistent/bus"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", nowhere)


@pytest.fixture
async def bare(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Loopback]:
    """Nothing runs yet; whatever is started is stopped again."""
    loopback = Loopback(tmp_path, nursery)
    yield loopback
    with trio.fail_after(10):
        await loopback.stop_all()
    assert loopback.locator.pinned == 0


@pytest.fixture
async def loopback(bare: Loopback) -> Loopback:
    """Everything runs."""
    await bare.start_compositor()
    await bare.start_agent()
    await bare.start_host()
    return bare


@pytest.fixture
async def compositor(loopback: Loopback) -> Compositor:
    return loopback.compositor


@pytest.fixture
async def app(loopback: Loopback) -> App:
    """An app that is connected."""
    return await loopback.app()
