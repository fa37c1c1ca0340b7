"""A domain's display, asked of real libvirts for: its window, and why there is none."""

from collections.abc import Iterator

import pytest

from tests.host.libvirt.conftest import Libvirt
from tests.host.libvirt.domains import with_elements
from wlproxy.host.libvirt import graphics
from wlproxy.host.libvirt.elements import CLIPBOARD, SCREEN
from wlproxy.host.libvirt.graphics import NoGraphicsError, _library, _open, _place
from wlproxy.host.libvirt.virsh import SESSION, Virsh


def screen_is_shown(libvirt: Libvirt) -> None:
    which = ("--libvirt", "vm.1", "--connect", libvirt.uri)
    assert "vm.1 does not run" in libvirt.run("screen", *which, status=1)
    libvirt.virsh("start", "vm.1")
    screen = libvirt.wlproxy("screen", *which)
    screen.wait_said("[vm-1] screen")
    other = libvirt.wlproxy("screen", *which)
    screen.wait_said("another viewer has taken this one's place")
    other.wait_said("in place (mode A)")
    # Asked in the proper way, libvirt has no complaints of the domain.
    assert "tainted" not in libvirt.virsh("dominfo", "vm.1")
    libvirt.virsh("destroy", "vm.1")
    other.wait_said("QEMU has ended")


@pytest.fixture
def vm(request: pytest.FixtureRequest) -> Iterator[Libvirt]:
    libvirt: Libvirt = request.getfixturevalue(request.param)
    libvirt.define("vm.1", devices=SCREEN + CLIPBOARD)
    yield libvirt
    libvirt.forget("vm.1")


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("vm", ["session", "system"], indirect=True)
def test_a_domains_screen(vm: Libvirt) -> None:
    screen_is_shown(vm)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_domain_without_a_display(session: Libvirt) -> None:
    session.define("vm.2")
    try:
        session.virsh("start", "vm.2")
        said = session.run("screen", "--libvirt", "vm.2", status=1)
        assert "domain vm.2 has no D-Bus display" in said
        assert "<graphics type='dbus' p2p='yes'/>" in said
    finally:
        session.forget("vm.2")


class Answers(Virsh):
    """A libvirt with one domain that runs."""

    def __init__(self, devices: str) -> None:
        super().__init__(SESSION)
        self._answers = {
            "domstate": "running\n",
            "dumpxml": with_elements(devices=devices),
        }

    def ask(self, *words: str, given: str | None = None) -> str:
        return self._answers[words[0]]


def test_the_display_is_one_of_several() -> None:
    spice = "<graphics type='spice'/><graphics type='dbus'/>"
    assert _place(Answers(spice + SCREEN), "vm.1") == 2
    with pytest.raises(NoGraphicsError, match="no D-Bus display") as raised:
        _place(Answers(spice), "vm.1")
    assert "virsh edit vm.1" in raised.value.remedy


class Library:
    """A library in which nothing can be had, but an error."""

    def __init__(self, fails: str) -> None:
        self.closed: list[str] = []
        self._fails = fails

    def _get(self, function: str) -> int | None:
        return None if function == self._fails else 1

    def virConnectOpenAuth(self, *_: object) -> int | None:  # noqa: N802 - libvirt's
        return self._get("connect")

    def virDomainLookupByName(self, *_: object) -> int | None:  # noqa: N802
        return self._get("domain")

    def virDomainOpenGraphicsFD(self, *_: object) -> int:  # noqa: N802
        return -1

    def virGetLastErrorMessage(self) -> bytes:  # noqa: N802
        return b"no such thing"

    def virDomainFree(self, _: object) -> None:  # noqa: N802
        self.closed.append("domain")

    def virConnectClose(self, _: object) -> None:  # noqa: N802
        self.closed.append("connection")


@pytest.mark.parametrize(
    ("fails", "closed"),
    [("connect", []), ("domain", ["connection"]), ("", ["domain", "connection"])],
)
def test_libvirt_refuses(
    monkeypatch: pytest.MonkeyPatch, fails: str, closed: list[str]
) -> None:
    library = Library(fails)
    monkeypatch.setattr(graphics, "_library", lambda: library)
    with pytest.raises(NoGraphicsError, match="no such thing"):
        _open(SESSION, "vm.1", 0)
    assert library.closed == closed


def test_the_library_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphics, "LIBRARY", "libno-such-thing.so.0")
    with pytest.raises(NoGraphicsError, match="cannot be used"):
        _library()


def test_a_library_that_is_no_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphics, "LIBRARY", "libc.so.6")
    with pytest.raises(NoGraphicsError, match="virConnectOpenAuth"):
        _library()
