"""What belongs to a global: the interfaces of all objects that can come of it."""

from collections.abc import Iterator

from wlproxy.protocol.wayland.interface import MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.verdicts import VERDICTS, Access


def messages(interface: str) -> Iterator[MessageSpec]:
    """All requests, then all events."""
    known = INTERFACES[interface]
    yield from (*known.requests, *known.events)


def family(name: str) -> set[str]:
    """An interface, and those of all that its messages create, and so on."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        if (each := waiting.pop()) not in found:
            found.add(each)
            waiting += [
                arg.interface
                for spec in messages(each)
                for arg in spec.args
                if arg.is_new_id and arg.interface
            ]
    return found


def made() -> set[str]:
    """Every interface of which some message makes an object."""
    return {
        arg.interface
        for name in INTERFACES
        for spec in messages(name)
        for arg in spec.args
        if arg.is_new_id and arg.interface
    }


def relayed(*accesses: Access) -> set[str]:
    """Every interface that a guest may have, with these verdicts; by default with any but DENIED."""
    wanted = accesses or (Access.ALLOWED, Access.ON_REQUEST)
    return {
        member
        for name, verdict in VERDICTS.items()
        if verdict.access in wanted and name in INTERFACES
        for member in family(name)
    }
