"""Headless westons, old and new, and how to start each."""

import contextlib
import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import nested

OLDEST = 10
"""The first that was tried: Debian 12's."""
NEW_OPTIONS = 12
"""The first with `--renderer`, and with `weston_capture_v1`."""
OTHER_ROOT = Path("/mnt")
SHARED = ("dev", "out", "proc", "run", "sys", "tmp")


@functools.cache
def _version(prefix: tuple[str, ...]) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        done = subprocess.run(
            [*prefix, "weston", "--version"],
            capture_output=True,
            text=True,
            check=False,
        )
        return int(done.stdout.split()[1].partition(".")[0])
    return 0


@dataclass(frozen=True, slots=True)
class Weston:
    """A weston, by the words that come before its name on a command line."""

    prefix: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """Its major version; 0 if it is not there."""
        return _version(self.prefix)

    @property
    def has_capture_protocol(self) -> bool:
        """Whether pictures are had by ``weston_capture_v1``, not the screenshooter."""
        return self.version >= NEW_OPTIONS

    def command(
        self, renderer: str, shell: str, size: tuple[int, int], socket: str
    ) -> list[str]:
        """Return a command line, to which ``--config`` or ``--no-config`` may be added.

        Args:
            renderer: ``gl`` or ``pixman``.
            shell: ``desktop`` or ``kiosk``.
            size: of its one output.
            socket: its name.
        """
        width, height = size
        if self.version >= NEW_OPTIONS:
            words = ["--backend=headless", f"--renderer={renderer}"]
            words.append(f"--shell={shell}")
        else:
            words = ["--backend=headless-backend.so", f"--use-{renderer}"]
            words.append(f"--shell={shell}-shell.so")
        # --debug: whoever asks may have a picture of what is shown.
        return [
            *(*self.prefix, "weston", *words, f"--width={width}", f"--height={height}"),
            *("--idle-time=0", "--debug", f"--socket={socket}"),
        ]


def of_guest_image() -> Weston:
    """Return the weston that the guest's image has, to be run in the lab's host VM.

    That is Debian 13's, with its Mesa, whatever the host is.
    """
    if not OTHER_ROOT.is_mount():
        disk = nested.in_lab().disk
        mounts = [["-t", "ext4", "-o", "ro", str(disk), str(OTHER_ROOT)]]
        mounts += [["--rbind", f"/{each}", str(OTHER_ROOT / each)] for each in SHARED]
        for arguments in mounts:
            subprocess.run(["mount", *arguments], check=True)
    return Weston(("chroot", str(OTHER_ROOT)))
