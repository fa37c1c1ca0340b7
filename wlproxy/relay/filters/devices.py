"""Outputs and tablets: hides from the guest by what one host could be recognized.

Serial numbers of monitors and pens, and paths of device files, are of no use in a guest
but to recognize the host.  What may be left out is dropped; a monitor's description, in
which compositors put the serial anywhere, is made anew of its maker and model.
"""

from dataclasses import dataclass

from wlproxy.protocol.wayland.message import ArgValue, RawMessage
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import ProtocolObject


@dataclass(slots=True, eq=False)
class Monitor:
    """A `wl_output`, for all objects that describe it; `model` with its maker."""

    model: bytes = b""


def note_model(state: ClientState, event: Event) -> None:
    """`wl_output.geometry`: which has no serial in it."""
    names = (event.array("make"), event.array("model"))
    _monitor(event.object).model = b" ".join(name for name in names if name)
    state.forward_event(event.object, event.spec, event.raw)


def get_xdg_output(state: ClientState, request: Request) -> None:
    """`zxdg_output_manager_v1.get_xdg_output`: remember of which monitor."""
    output = state.context.objects.guest(request.integer("output"))
    state.forward_new(request).role = _monitor(output)


def describe(state: ClientState, event: Event) -> None:
    """`description` of an output: without a serial."""
    _forward(state, event, (_monitor(event.object).model or b"monitor",))


def drop(state: ClientState, event: Event) -> None:
    """`path`, `serial_number` and the like: sent only where there is one."""


def _monitor(entry: ProtocolObject) -> Monitor:
    if not isinstance(entry.role, Monitor):
        entry.role = Monitor()
    return entry.role


def _forward(state: ClientState, event: Event, args: tuple[ArgValue, ...]) -> None:
    data = bytearray(encode_message(event.object.host_id, event.spec, args))
    raw = RawMessage(event.raw.object_id, event.raw.opcode, data)
    state.forward_event(event.object, event.spec, raw)
