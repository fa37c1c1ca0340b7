"""Objects and messages, as an app or a compositor sees them, and as tests say them."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wlproxy.protocol.wayland.interface import ArgKind, Interface, MessageSpec
from wlproxy.protocol.wayland.message import ArgValue, NewId

SERVER = 0xFF000000
DESTRUCTORS = {"destroy", "release"}


@dataclass(eq=False)
class Thing:
    """A proxy of the app or a resource of the compositor."""

    id: int
    interface: Interface
    version: int
    alive: bool = True
    facts: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.interface.name}@{self.id}"


def words(spec: MessageSpec, args: Sequence[ArgValue], fds: Sequence[object]) -> str:
    shown, left = [], deque(fds)
    for arg, value in zip(spec.args, args, strict=True):
        if arg.kind is ArgKind.FD:
            shown.append(f"fd {left.popleft()}")
        elif isinstance(value, NewId):
            shown.append(f"new {value.interface.decode()}@{value.object_id}")
        elif arg.kind is ArgKind.NEW_ID:
            shown.append(f"new {arg.interface}@{integer(value)}")
        elif arg.kind is ArgKind.OBJECT:
            shown.append(f"@{integer(value)}" if value else "null")
        elif isinstance(value, bytes):
            shown.append(repr(value.decode("utf-8", "replace")))
        else:
            shown.append(str(value))
    return f"{spec.name}({', '.join(shown)})"


def fill(
    spec: MessageSpec, args: Sequence[ArgValue], new_id: Callable[[str], int]
) -> list[ArgValue]:
    """Put in what a caller leaves out: new ids and the places of fds."""
    left = deque(args)
    full: list[ArgValue] = []
    for arg in spec.args:
        if arg.kind is ArgKind.FD:
            full.append(None)
        elif arg.kind is ArgKind.NEW_ID and arg.interface is not None:
            full.append(new_id(arg.interface))
        else:
            full.append(left.popleft())
    assert not left, f"too many arguments for {spec}"
    return full


def integer(value: object) -> int:
    assert isinstance(value, int)
    return value
