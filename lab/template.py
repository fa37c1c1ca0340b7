"""Frozen machines: an outer VM is booted and saved once, and restored for each job.

Its RAM is a file that QEMU maps: shared while the machine is made, privately (copy on
write) when it is restored.  So a restore reads nothing that it does not use, and any
number of jobs starts from the same state.  The rest of the state is a few megabytes.

A machine that is frozen at the wrong moment, with a virtual CPU inside the guest, saves
without complaint but cannot be loaded.  So it is frozen while the guest is idle, and a new
template counts only once it has been restored and has run something.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lab import paths
from lab.errors import LabError
from lab.outer import Outer, Vm
from lab.qemu import Qmp
from lab.say import say, step

# A restored machine is up: it only has to answer, and prints nothing.
RESTORE_TIMEOUT = 60.0
ATTEMPTS = 3
MIGRATING = ("setup", "active", "device")
# For the guest to see that its ports' other ends are gone, and to fall idle.
SETTLE = 1.0


def path(outer: Outer) -> Path:
    """Return where the frozen form of a machine is, or would be."""
    return paths.cache() / "templates" / f"{outer.name}-{outer.key}"


def ensure(outer: Outer, check: Callable[[Vm], None]) -> Path | None:
    """Return the template of a machine, made if need be.

    Args:
        outer: the machine.
        check: raises `LabError` if a restored machine is no good.

    Returns:
        Its directory, or `None` if this machine cannot be frozen here.
    """
    final = path(outer)
    if (final / "good").exists():
        return final
    if (final / "hopeless").exists():
        return None
    _remove_others(final)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with step(f"template {final.name}: make"):
                _make(outer, final)
            with step(f"template {final.name}: verify"):
                _verify(outer, final, check)
        except LabError as error:
            say(f"attempt {attempt} of {ATTEMPTS} at the template failed: {error}")
        else:
            (final / "good").touch()
            return final
    for name in ("ram", "state"):
        (final / name).unlink(missing_ok=True)
    (final / "hopeless").touch()
    say("no template on this machine: every job boots (lab clean forgets this)")
    return None


def restore(outer: Outer, template: Path, directory: Path) -> Vm:
    """Start a machine from its template.

    Raises:
        LabError: QEMU could not load it.
    """
    memory = f"memory-backend-file,mem-path={template}/ram,share=off"
    initrd = template / "initrd"
    vm = Vm(outer, directory, initrd, memory, "-incoming", "defer")
    try:
        with vm.qmp() as qmp:
            _ignore_shared(qmp)
            qmp("migrate-incoming", uri=f"file:{template}/state")
            _wait_while(vm, qmp, "query-status", ("inmigrate",), RESTORE_TIMEOUT)
            qmp("cont")
    except BaseException as error:
        vm.kill()
        if isinstance(error, (LabError, OSError)):
            raise LabError(
                f"restoring {template.name}: {error}\n{vm.tails()}"
            ) from error
        raise
    return vm


def _make(outer: Outer, final: Path) -> None:
    shutil.rmtree(final, ignore_errors=True)
    final.mkdir(parents=True)
    initrd = final / "initrd"
    initrd.write_bytes(outer.initrd)
    memory = f"memory-backend-file,mem-path={final}/ram,share=on"
    directory = tempfile.TemporaryDirectory(prefix="wlproxy-lab-")
    with directory as name, Vm(outer, Path(name), initrd, memory) as vm:
        vm.connect(f"{outer.name}, booting").close()
        time.sleep(SETTLE)
        with vm.qmp() as qmp:
            qmp("stop")
            _ignore_shared(qmp)
            qmp("migrate", uri=f"file:{final}/state")
            if _wait_while(vm, qmp, "query-migrate", MIGRATING, 120) != "completed":
                raise LabError(f"freezing: {qmp('query-migrate')}")
            with contextlib.suppress(LabError, OSError):
                qmp("quit")
        vm.process.wait(30)


def _verify(outer: Outer, template: Path, check: Callable[[Vm], None]) -> None:
    directory = tempfile.TemporaryDirectory(prefix="wlproxy-lab-")
    with directory as name, restore(outer, template, Path(name)) as vm:
        check(vm)


def _ignore_shared(qmp: Qmp) -> None:
    # RAM in a file that both sides map need not be copied into the state.
    capability = {"capability": "x-ignore-shared", "state": True}
    qmp("migrate-set-capabilities", capabilities=[capability])


def _wait_while(
    vm: Vm, qmp: Qmp, query: str, busy: tuple[str, ...], timeout: float
) -> str:
    """Wait until a query no longer returns a status in `busy`; return it."""
    deadline = vm.clock() + timeout
    while (status := str(qmp(query).get("status"))) in busy:
        if vm.clock() > deadline:
            raise LabError(f"{query}: still {status} after {timeout:.0f} s")
        time.sleep(0.005)
    return status


def _remove_others(final: Path) -> None:
    """Remove older templates of the same name: each is a gigabyte or two."""
    prefix = final.name.partition("-")[0] + "-"
    for each in final.parent.glob(prefix + "*"):
        if each != final:
            shutil.rmtree(each, ignore_errors=True)
