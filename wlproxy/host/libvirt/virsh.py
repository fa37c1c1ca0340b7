"""Asks libvirt by its command line.

libvirt's bindings for Python are a C extension that is built against the very libvirt of a machine,
so that no wheel of it exists; `virsh` is wherever libvirt's clients are, and both exchange the same
XML.  What libvirtd says is trusted as root is: it can do to this machine what it likes.
"""

import os
import subprocess
from collections.abc import Mapping
from typing import Final

from wlproxy.host.errors import HostError

SESSION: Final = "qemu:///session"
SYSTEM: Final = "qemu:///system"
SECONDS: Final = 120.0
"""For an answer.  A daemon that has just been started asks each QEMU what it can do first."""


class LibvirtError(HostError):
    """libvirt cannot be asked, or refuses."""


class Virsh:
    """A libvirt.

    Attributes:
        uri: which one, as `virsh --connect` has it.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @property
    def is_system(self) -> bool:
        """Whether its VMs run as a user of their own."""
        return self.uri.partition("?")[0].endswith("/system")

    def ask(self, *words: str, given: str | None = None) -> str:
        """Run a command and return what it prints.

        Args:
            words: the command.
            given: for its standard input.

        Raises:
            LibvirtError: it cannot be run, or fails.
        """
        tried = f"virsh --connect {self.uri} {words[0]}"
        try:
            done = subprocess.run(  # noqa: S603 - as the user's own shell would find it
                ["virsh", "--quiet", "--connect", self.uri, *words],  # noqa: S607
                env={**os.environ, "LC_ALL": "C"},
                input=given or "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
                check=False,
            )
        except FileNotFoundError as exc:
            raise LibvirtError(
                "there is no virsh, by which libvirt is asked",
                tried=tried,
                remedy="Install libvirt's clients (Debian: libvirt-clients).",
            ) from exc
        except (subprocess.TimeoutExpired, OSError) as exc:
            raise LibvirtError(f"libvirt does not answer: {exc}", tried=tried) from exc
        if done.returncode:
            raise LibvirtError(
                f"libvirt refuses: {_reason(done.stderr)}",
                tried=tried,
                remedy=_remedy(done.stderr, self.uri),
            )
        return done.stdout

    def domains(self) -> list[str]:
        """List the names of all domains.

        Raises:
            LibvirtError: it cannot be asked.
        """
        listed = self.ask("list", "--all", "--name")
        return [line for line in listed.splitlines() if line.strip()]


def find_libvirt(domain: str, uri: str | None, environ: Mapping[str, str]) -> Virsh:
    """Find the libvirt that has a domain.

    Args:
        domain: its name.
        uri: which libvirt; None: the user's default, or whichever has the domain.
        environ: LIBVIRT_DEFAULT_URI is in it, perhaps.

    Raises:
        LibvirtError: none has, or more than one.
    """
    uri = uri or environ.get("LIBVIRT_DEFAULT_URI")
    uris = [uri] if uri else [SYSTEM] if os.geteuid() == 0 else [SESSION, SYSTEM]
    found, said = [], []
    for each in uris:
        try:
            names = Virsh(each).domains()
        except LibvirtError as exc:
            if len(uris) == 1:
                raise
            said.append(f"{each}: {exc}")
            continue
        if domain in names:
            found.append(Virsh(each))
        said.append(f"{each} has: {', '.join(sorted(names)) or 'none'}")
    if len(found) > 1:
        raise LibvirtError(
            f"there are two domains {domain}", remedy="Choose one: --connect URI"
        )
    if not found:
        raise LibvirtError(f"there is no domain {domain}", remedy="\n".join(said))
    return found[0]


def _reason(stderr: str) -> str:
    lines = [line.removeprefix("error: ").strip() for line in stderr.splitlines()]
    return "; ".join(filter(None, lines)) or "without a reason"


def _remedy(stderr: str, uri: str) -> str:
    if "authentication" in stderr or "Permission denied" in stderr:
        return (
            f"For {uri} one has to be in its group (Debian: `usermod -aG libvirt USER`, and "
            "log in again)."
        )
    if "Failed to connect socket" in stderr:
        return "Does its daemon run? (`systemctl status libvirtd virtqemud`)"
    return ""
