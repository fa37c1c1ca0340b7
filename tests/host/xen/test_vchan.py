"""Which vchan of a domain's is taken, and what is left of it in XenStore; without Xen."""

import errno
from collections.abc import Iterator

import pytest

from tests.peers.xenstore import XenStore
from wlproxy.host.xen.vchan import DomainGoneError, DomainVchans
from wlproxy.transport.xenstore import Store

PATH = "/local/domain/5/data/wlproxy"
KEY = f"{PATH}/ring-ref"


class Vchan:
    """What the library would map."""

    def __init__(self, *, is_open: bool) -> None:
        self.is_open = is_open
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Library:
    """Maps what a test says."""

    def __init__(self) -> None:
        self.next: Vchan | OSError = Vchan(is_open=True)
        self.asked: list[tuple[int, str]] = []

    def connect(self, domid: int, path: str) -> Vchan:
        self.asked.append((domid, path))
        if isinstance(self.next, OSError):
            raise self.next
        return self.next


@pytest.fixture
def peer() -> Iterator[XenStore]:
    made = XenStore()
    made.values |= {"/local/domain/5": b"", KEY: b"8"}
    yield made
    made.close()


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def vchans(peer: XenStore, library: Library) -> Iterator[DomainVchans]:
    with DomainVchans(5, library, Store(peer.path)) as made:  # type: ignore[arg-type]
        yield made


def test_a_vchan_is_good_for_one_connection(
    vchans: DomainVchans, library: Library, peer: XenStore
) -> None:
    found: object = vchans.open()
    assert found is library.next
    assert library.asked == [(5, PATH)]
    assert KEY not in peer.values
    assert vchans.open() is None
    assert len(library.asked) == 1


def test_no_vchan_yet(vchans: DomainVchans, peer: XenStore) -> None:
    del peer.values[KEY]
    assert vchans.open() is None


def test_one_whose_maker_has_gone(
    vchans: DomainVchans, library: Library, peer: XenStore
) -> None:
    """It may have been made anew meanwhile: what is in XenStore is not taken away."""
    dead = library.next = Vchan(is_open=False)
    assert vchans.open() is None
    assert dead.closed
    assert KEY in peer.values


def test_one_that_cannot_be_mapped_is_complained_of_once(
    vchans: DomainVchans, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    library.next = OSError(errno.EINVAL, "cannot map the domain's vchan")
    assert vchans.open() is None
    assert vchans.open() is None
    assert caplog.text.count("cannot map the domain's vchan: Invalid argument") == 1


def test_a_store_that_fails_costs_no_vchan(
    vchans: DomainVchans,
    library: Library,
    peer: XenStore,
) -> None:
    honest = peer.answer

    def fail(kind: int, path: str) -> tuple[int, bytes]:
        return (16, b"EIO\0") if kind == 13 else honest(kind, path)

    peer.answer = fail
    with pytest.raises(OSError, match="EIO"):
        vchans.open()
    assert isinstance(library.next, Vchan)
    assert library.next.closed


def test_a_domain_that_ends(vchans: DomainVchans, peer: XenStore) -> None:
    assert vchans.fileno() >= 0
    vchans.look()
    del peer.values["/local/domain/5"]
    with pytest.raises(DomainGoneError, match="no domain 5"):
        vchans.look()


def test_no_such_domain(peer: XenStore, library: Library) -> None:
    with pytest.raises(DomainGoneError, match="no domain 6"):
        DomainVchans(6, library, Store(peer.path))  # type: ignore[arg-type]
