"""`wlproxy run --listen` as a user starts it, with real QEMUs that come and go."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from tests.host.conftest import Weston
from wlproxy.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("qemu-system-x86_64"), reason="needs QEMU: qemu-system-x86"
    ),
]


class Proxy:
    """The command, and what it says."""

    def __init__(self, weston: Weston, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wlproxy", "run", "--name", "work", *options],
            env={**os.environ, **weston.environ},
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_said(self, words: str) -> str:
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if words in line:
                return line
        pytest.fail(f"it never said {words!r}:\n{''.join(said)}")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.wait(30)


@contextmanager
def qemu(weston: Weston) -> Iterator[int]:
    """A VM that is stopped, as `wlproxy qemu-args` has it."""
    arguments = ["qemu-args", "--memory", "64M", "--name", "work", "--listen"]
    printed = CliRunner().invoke(main, arguments, env=weston.environ).output
    own = ["-S", "-accel", "tcg", "-display", "none", "-nodefaults"]
    words = ["qemu-system-x86_64", *own, *shlex.split(printed.replace("\\\n", " "))]
    with subprocess.Popen(words) as process:
        yield process.pid
        process.kill()


def test_qemus_connect_one_after_the_other(weston: Weston) -> None:
    """Whichever of the two is there first: QEMU tries again each second."""
    with qemu(weston):
        proxy = Proxy(weston, "--listen")
        try:
            proxy.wait_said("guest RAM: 64 MiB")
            channel = weston.directory / "wlproxy-work.channel"
            assert channel.is_socket()
        except BaseException:
            proxy.process.kill()
            raise
    try:
        proxy.wait_said("waiting for QEMU to connect")
        with qemu(weston):
            proxy.wait_said("guest RAM: 64 MiB")
    finally:
        assert proxy.end() == 0
    assert not channel.exists()
