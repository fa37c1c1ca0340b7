import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.conftest import nobody
from wlproxy.host.errors import GuestRamLayoutError, GuestRamUnreadableError
from wlproxy.host.qemu.process import (
    Machine,
    backend_files,
    machine_layout,
    machine_of,
    parse_machine,
    unreadable,
)
from wlproxy.memory.guest_memory import (
    GIB,
    arm_virt_layout,
    i440fx_layout,
    microvm_layout,
    q35_layout,
)

X86 = "/usr/bin/qemu-system-x86_64"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["-m", "4G"], ""),
        (["-machine", "q35"], "q35"),
        (["-M", "q35,memory-backend=ram"], "q35"),
        (["--machine", "type=pc,accel=kvm"], "pc"),
        (["-machine", "accel=kvm,type=microvm"], "microvm"),
        (
            ["-machine", "memory-backend=ram", "-M", "pc-q35-10.0,usb=off"],
            "pc-q35-10.0",
        ),
        (["-machine", "pc", "-machine", "q35"], "q35"),
        (["-machine", "q35", "-machine", "memory-backend=ram"], "q35"),
        (["-machine", "accel=kvm"], ""),
        (["-machine"], ""),
    ],
)
def test_machine_type(arguments: list[str], kind: str) -> None:
    assert parse_machine([X86, *arguments]) == Machine("qemu-system-x86_64", kind, "")


def test_machine_options_that_move_ram() -> None:
    machine = parse_machine([X86, "-machine", "q35,max-ram-below-4g=1G"])
    assert machine.below_4g == "1G"
    with pytest.raises(GuestRamLayoutError, match="max-ram-below-4g=1G"):
        machine_layout(machine, GIB)


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_command_line_is_read(arguments: list[str]) -> None:
    parse_machine(arguments)


@pytest.mark.parametrize("ram", [1 * GIB, 3 * GIB, 6 * GIB])
def test_layouts_of_the_machine_types(ram: int) -> None:
    def layout(program: str, kind: str) -> object:
        return machine_layout(Machine(program, kind, ""), ram)

    assert layout("qemu-system-x86_64", "q35") == q35_layout(ram)
    assert layout("qemu-system-x86_64", "pc-q35-9.2") == q35_layout(ram)
    assert layout("qemu-system-x86_64", "") == i440fx_layout(ram)
    assert layout("qemu-kvm", "pc-i440fx-8.0") == i440fx_layout(ram)
    assert layout("qemu-system-x86_64", "microvm") == microvm_layout(ram)
    assert layout("qemu-system-aarch64", "virt-9.0") == arm_virt_layout(ram)


@pytest.mark.parametrize(
    ("program", "kind"),
    [
        ("qemu-system-x86_64", "isapc"),
        ("qemu-system-aarch64", "raspi4b"),
        ("", "xenfv"),
    ],
)
def test_unknown_machines_are_left_to_the_monitor(program: str, kind: str) -> None:
    with pytest.raises(GuestRamLayoutError, match="--qmp"):
        machine_layout(Machine(program, kind, ""), GIB)


def test_own_process_has_no_guest_ram() -> None:
    assert backend_files(os.getpid()) == []
    assert machine_of(os.getpid()).program


def test_process_that_is_not_there() -> None:
    for look in (backend_files, machine_of):
        with pytest.raises(GuestRamUnreadableError, match="no process 4194305"):
            look(4194305)  # above PID_MAX_LIMIT


def test_process_of_somebody_else() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        pid = process.pid if os.geteuid() == 0 else 1
        with nobody(), pytest.raises(GuestRamUnreadableError, match="same user"):
            backend_files(pid)


@pytest.mark.parametrize(
    ("user", "group", "words"),
    [
        (65533, 65534, "runs as user 65533, group 65534, and wlproxy as user 65534"),
        # What `user =` alone makes of libvirt's QEMU.
        (65534, 65533, "runs as user 65534, group 65533, and wlproxy as user 65534"),
    ],
)
def test_both_user_and_group_must_be_ours(user: int, group: int, words: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: cannot become two other users")
    # Imported before it is nobody, who may not be able to read our Python.
    look = (
        "import os, sys; from wlproxy.host.qemu.process import backend_files;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "backend_files(int(sys.argv[1]))"
    )
    with subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, user=user, group=group, extra_groups=[]
    ) as process:
        found = subprocess.run(
            [sys.executable, "-c", look, str(process.pid)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert words in found.stderr
    assert 'user = "+65534"\n  group = "+65534"' in found.stderr


def test_unreadable_without_a_file_name() -> None:
    assert "/proc" in str(unreadable(1, PermissionError(13, "no")))
