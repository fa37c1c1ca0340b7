import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clients.capture import Picture
from tests.screen.conftest import MakeMachine, has_text, wait_until
from tests.screen.doormen import DoormanThread
from wlproxy.host.errors import QmpError
from wlproxy.protocol.dbus.auth import client_half
from wlproxy.protocol.dbus.connection import Outgoing
from wlproxy.protocol.dbus.messages import MessageKind
from wlproxy.screen.commands import FileKind, ShowBytes, ShowMap
from wlproxy.screen.connecting import (
    NoScreenError,
    adopt,
    connect_by_monitor,
    listener_pair,
    owner,
)
from wlproxy.screen.console import Console, TouchKind, console_path, touch
from wlproxy.screen.devices import has_touchscreen
from wlproxy.screen.display import MAPS, Display
from wlproxy.screen.doorman import LET_IN
from wlproxy.screen.qemu_files import QemuFile
from wlproxy.screen.qemu_peer import QemuPeer
from wlproxy.transport.fds import OwnedFd

FOREVER = 10
"""Seconds after which a test's socket gives up."""


def send(sock: socket.socket, output: list[Outgoing[OwnedFd]]) -> None:
    for each in output:
        socket.send_fds(sock, [each.data], [fd.fileno() for fd in each.fds])
        for fd in each.fds:
            fd.release()


def receive(sock: socket.socket) -> tuple[bytes, list[QemuFile]]:
    sock.settimeout(FOREVER)
    data, fds, flags, _ = socket.recv_fds(sock, 65536, 64)
    assert data, "QEMU hung up"
    assert not flags & socket.MSG_CTRUNC
    return data, list(map(QemuFile, fds))


def first_picture(main: socket.socket) -> ShowMap | ShowBytes:
    """Register a listener, and return what it is told to show."""
    peer = QemuPeer[OwnedFd](owner(main))
    console = Console[OwnedFd](peer)
    ours, qemus = listener_pair()
    with ours, qemus, DoormanThread() as doorman:
        doorman.admit(ours, 1, MAPS)
        console.register(qemus)
        exchange(main, peer, lambda: console.registered or console.refusal)
        assert not console.refusal
        assert doorman.hear() == LET_IN + b"\1"
        display = Display()
        shown: list[ShowMap | ShowBytes] = []
        while not shown:
            commands = display.receive(*receive(ours))
            ours.sendall(display.take_answers())
            shown = [each for each in commands if isinstance(each, ShowMap | ShowBytes)]
        for late in shown[1:]:
            if isinstance(late, ShowMap):
                late.file.close()
        return shown[0]


@pytest.mark.slow
def test_the_map_is_what_qemu_shows(machine: MakeMachine) -> None:
    vm = machine("-vga", "std")
    wait_until(lambda: has_text(vm.picture()), "SeaBIOS's text")
    with connect_by_monitor(vm.monitor) as main:
        shown = first_picture(main)
        assert isinstance(shown, ShowMap)
        layout, file = shown.layout, shown.file
        assert isinstance(file, QemuFile)
        with file:
            assert file.kind is FileKind.MEMORY
            expected = vm.still_picture()
            data = bytearray(os.pread(file.fileno(), layout.end, layout.offset))
    data[3::4] = b"\xff" * (len(data) // 4)
    assert (layout.width, layout.height) == (720, 400)
    assert Picture(layout.width, layout.height, bytes(data)) == expected


@pytest.mark.slow
def test_a_device_without_a_map_sends_bytes(machine: MakeMachine) -> None:
    vm = machine("-device", "ramfb")
    with connect_by_monitor(vm.monitor) as main:
        shown = first_picture(main)
        # What is there before the firmware has set a mode is a map all the same.
        if isinstance(shown, ShowMap):
            shown.file.close()
        assert shown.layout.width


@pytest.mark.slow
def test_who_is_silent_does_not_stop_the_machine_before_it_is_registered(
    machine: MakeMachine,
) -> None:
    vm = machine("-vga", "std")
    with connect_by_monitor(vm.monitor):
        assert vm.status == "running"


def exchange(
    main: socket.socket, peer: QemuPeer[OwnedFd], done: Callable[[], object]
) -> None:
    """Talk to QEMU until something is so."""
    send(main, peer.take_output())
    while not done():
        peer.receive(*receive(main))
        send(main, peer.take_output())


@pytest.mark.slow
@pytest.mark.parametrize(("vga", "takes"), [("std", False), ("virtio", True)])
def test_which_devices_take_sizes(
    machine: MakeMachine, vga: str, *, takes: bool
) -> None:
    vm = machine("-vga", vga)
    with connect_by_monitor(vm.monitor) as main:
        peer = QemuPeer[OwnedFd](owner(main))
        console = Console[OwnedFd](peer)
        console.want_size(800, 600)
        ours, qemus = listener_pair()
        with ours, qemus:
            console.register(qemus)  # whose answer comes after that to the size
            exchange(main, peer, lambda: console.registered)
        assert console.takes_sizes == takes


@pytest.mark.slow
def test_which_machines_can_be_touched(machine: MakeMachine) -> None:
    assert not has_touchscreen(machine("-device", "virtio-tablet-pci").monitor)
    assert has_touchscreen(machine("-device", "virtio-multitouch-pci").monitor)


@pytest.mark.slow
def test_qemu_takes_what_fingers_do(machine: MakeMachine) -> None:
    vm = machine("-vga", "std", "-device", "virtio-multitouch-pci")
    with connect_by_monitor(vm.monitor) as main:
        peer = QemuPeer[OwnedFd](owner(main))
        kinds: list[MessageKind] = []
        for kind, slot in ((0, 9), (1, 9), (2, 9), (0, 10)):
            call = touch(TouchKind(kind), slot, 5, 6)
            peer.ask(
                console_path(0),
                call.method,
                call.signature,
                call.body,
                lambda answer: kinds.append(answer.kind),
            )
        exchange(main, peer, lambda: len(kinds) == 4)
        assert kinds == [MessageKind.METHOD_RETURN] * 3 + [MessageKind.ERROR]


@pytest.mark.slow
def test_a_screen_that_is_not_there(machine: MakeMachine) -> None:
    vm = machine("-vga", "std")
    with connect_by_monitor(vm.monitor) as main:
        peer = QemuPeer[OwnedFd](owner(main))
        console = Console[OwnedFd](peer, 7)
        exchange(main, peer, lambda: console.refusal)
        assert "no such screen" in console.refusal


@pytest.mark.slow
def test_qemu_has_no_such_display(machine: MakeMachine) -> None:
    vm = machine("-vga", "std", "-display", "none")
    with pytest.raises(NoScreenError, match="no display for us") as raised:
        connect_by_monitor(vm.monitor)
    assert "qemu-system-modules-opengl" in raised.value.remedy


def test_no_monitor(tmp_path: Path) -> None:
    with pytest.raises(QmpError):
        connect_by_monitor(tmp_path / "qmp")


def test_a_socket_is_whose_it_is() -> None:
    ours, theirs = socket.socketpair()
    with theirs, adopt(ours.detach()) as adopted:
        assert owner(adopted) == os.getuid()
        assert not adopted.get_inheritable()


def test_what_is_no_socket_is_not_adopted(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(NoScreenError):
        adopt(file.fileno())
    with pytest.raises(NoScreenError):
        adopt(9999)


def test_what_a_client_says_is_there_before_qemu_has_the_socket() -> None:
    ours, qemus = listener_pair()
    with ours, socket.socket(fileno=qemus.detach()) as theirs:
        assert theirs.recv(1000) == client_half(os.getuid())
