"""Which page source a VM has."""

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.host.scripted import guest_ram
from tests.host.xen.fake_domain import FakeDomain
from wlproxy.host import page_sources
from wlproxy.host.channel_address import Vsock
from wlproxy.host.config import HostConfig
from wlproxy.host.errors import GrantError, GuestRamError
from wlproxy.host.page_sources import check_pages_are_told, page_source
from wlproxy.host.pages import PageSource
from wlproxy.host.qemu.ram_pages import RamPages
from wlproxy.host.xen import gntdev, lending
from wlproxy.host.xen.domain import Domain
from wlproxy.host.xen.grant_pages import GrantPages
from wlproxy.transport.fd_stream import FdStream

CHANNEL = Path("/channel")


@pytest.fixture
async def stream() -> AsyncIterator[FdStream]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield FdStream(ours)


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_sources, "qemu_ram", lambda *_: guest_ram())
    monkeypatch.setattr(gntdev, "Gntdev", lambda _: FakeDomain())
    monkeypatch.setattr(lending, "LentGrants", lambda _: FakeDomain())


def source(config: HostConfig, stream: FdStream) -> PageSource:
    return page_source(config, lambda: None, stream)


async def test_a_qemu_of_kvms_has_ram(stream: FdStream) -> None:
    pages = source(HostConfig(CHANNEL), stream)
    assert isinstance(pages, RamPages)
    pages.close()


async def test_a_domain_that_is_named_has_grants(stream: FdStream) -> None:
    pages = source(HostConfig(CHANNEL, xen_domid=3), stream)
    assert isinstance(pages, GrantPages)
    assert "domain 3" in str(pages)
    assert pages.vmm.pid == 0


async def test_a_domain_that_is_found_has_grants(
    stream: FdStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Domain(9, os.getpid())
    monkeypatch.setattr(page_sources, "find_domain", lambda _: found)
    config = HostConfig(CHANNEL, xen_gntdev=Path("/g"), xen_grant_frames=1)
    pages = source(config, stream)
    assert str(pages) == "504 grants of Xen's domain 9, at most"
    assert pages.vmm.pid == os.getpid()


async def test_somebody_lends_and_no_domain_is_known(stream: FdStream) -> None:
    with pytest.raises(GrantError, match="which domain") as caught:
        source(HostConfig(CHANNEL, xen_gntdev=Path("/g")), stream)
    assert "--xen-domid" in caught.value.remedy


def test_a_vsock_shows_neither() -> None:
    with pytest.raises(GuestRamError, match="not found by a vsock"):
        check_pages_are_told(HostConfig(Vsock(3, 5)))
    check_pages_are_told(HostConfig(Vsock(3, 5), xen_domid=1))
