"""Gets a socket to a domain's display from libvirt: virDomainOpenGraphicsFD.

`virsh` has no command for that (but `qemu-monitor-command --pass-fds`, after which libvirt marks the domain as
tainted), so libvirt's library is called, which virsh itself needs and whose interface
does not change.  It makes the socket pair, so that the other end knows whoever libvirtd runs as.
"""

import ctypes
import socket
from collections.abc import Mapping
from typing import Final

from wlproxy.host.errors import HostError
from wlproxy.host.libvirt.domain import parse_domain
from wlproxy.host.libvirt.elements import GRAPHICS
from wlproxy.host.libvirt.virsh import Virsh, find_libvirt

LIBRARY: Final = "libvirt.so.0"

_POINTER, _TEXT, _NUMBER = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint
_FUNCTIONS: Final = {
    "virConnectOpenAuth": (_POINTER, (_TEXT, _POINTER, _NUMBER)),
    "virConnectClose": (ctypes.c_int, (_POINTER,)),
    "virDomainLookupByName": (_POINTER, (_POINTER, _TEXT)),
    "virDomainFree": (ctypes.c_int, (_POINTER,)),
    "virDomainOpenGraphicsFD": (ctypes.c_int, (_POINTER, _NUMBER, _NUMBER)),
    "virGetLastErrorMessage": (_TEXT, ()),
    "virSetErrorFunc": (None, (_POINTER, _POINTER)),
}
_Silent = ctypes.CFUNCTYPE(None, _POINTER, _POINTER)
_SILENT: Final = _Silent(lambda _user, _error: None)
"""libvirt would print its errors, else."""


class NoGraphicsError(HostError):
    """libvirt gives no socket to a domain's display."""


class NotRunningError(NoGraphicsError):
    """The domain does not run."""


def open_display(
    name: str, uri: str | None, environ: Mapping[str, str]
) -> socket.socket:
    """Get a socket to a domain's D-Bus display.  Blocks.

    Args:
        name: the domain's, as libvirt has it.
        uri: which libvirt; None: whichever has it.
        environ: the process' environment.

    Raises:
        LibvirtError: libvirt cannot be asked, or does not have it.
        NotRunningError: it does not run.
        NoGraphicsError: it has no such display.
    """
    virsh = find_libvirt(name, uri, environ)
    return _open(virsh.uri, name, _place(virsh, name))


def _place(virsh: Virsh, name: str) -> int:
    """Tell which of its graphics is D-Bus.

    Raises:
        LibvirtError: libvirt cannot be asked.
        NotRunningError: it does not run.
        NoGraphicsError: none is.
    """
    if virsh.ask("domstate", "--domain", name).strip() in ("shut off", "crashed"):
        raise NotRunningError(
            f"domain {name} does not run", remedy=f"virsh start {name}"
        )
    root = parse_domain(virsh.ask("dumpxml", "--domain", name))
    for place, each in enumerate(root.all("devices/graphics")):
        kind, peers = each.attributes.get("type"), each.attributes.get("p2p")
        if (kind, peers) == ("dbus", "yes"):
            return place
    raise NoGraphicsError(
        f"domain {name} has no D-Bus display",
        remedy=f"In its <devices>, with `virsh edit {name}` or in virt-manager's XML tab: "
        f"{GRAPHICS}, in place of other <graphics>; then shut it down and start it.",
    )


def _open(uri: str, name: str, place: int) -> socket.socket:
    """Have libvirt open it.

    Raises:
        NoGraphicsError: it does not.
    """
    library = _library()
    connection = domain = None
    try:
        connection = library.virConnectOpenAuth(uri.encode(), None, 0)
        if connection:
            domain = library.virDomainLookupByName(connection, name.encode())
        number = -1
        if domain:
            number = library.virDomainOpenGraphicsFD(domain, place, 0)
        if number < 0:
            said = library.virGetLastErrorMessage().decode(errors="replace")
            raise NoGraphicsError(
                f"libvirt does not open the display of domain {name}: {said}",
                tried=f"virDomainOpenGraphicsFD, {uri}",
            )
        return socket.socket(fileno=number)
    finally:
        if domain:
            library.virDomainFree(domain)
        if connection:
            library.virConnectClose(connection)


def _library() -> ctypes.CDLL:
    """Load libvirt's client library.

    Raises:
        NoGraphicsError: it is not there, or too old.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
        for function, (result, arguments) in _FUNCTIONS.items():
            found = getattr(library, function)
            found.restype, found.argtypes = result, arguments
    except (OSError, AttributeError) as exc:
        raise NoGraphicsError(
            f"libvirt's library cannot be used: {exc}",
            tried=f"dlopen {LIBRARY}",
            remedy="Install libvirt's clients (Debian: libvirt0).",
        ) from exc
    library.virSetErrorFunc(None, ctypes.cast(_SILENT, _POINTER))
    return library
