"""What the messages of one connection mean: which object is of which interface.

For recordings, whose both sides are known to keep the rules: libwayland speaks there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.recording import Speaker
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.protocol.wayland.interface import Interface, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import (
    DISPLAY_ID,
    ArgValue,
    NewId,
    RawMessage,
)
from wlproxy.protocol.wayland.wire import (
    MessageSplitter,
    encode_message,
    read_arguments,
)


@dataclass(slots=True)
class Said:
    """One message, decoded.

    Attributes:
        speaker: whose it is.
        sender: the object that it is about.
        spec: which message.
        args: its arguments.
    """

    speaker: Speaker
    sender: int
    spec: MessageSpec
    args: list[ArgValue]

    @property
    def title(self) -> tuple[str, str]:
        """Its interface and name."""
        return self.spec.interface, self.spec.name

    @property
    def created(self) -> int:
        """The id of the object that it creates; 0: it creates none."""
        place = self.spec.new_id_index
        if place is None:
            return 0
        value = self.args[place]
        if isinstance(value, NewId):
            return value.object_id
        assert isinstance(value, int)
        return value

    def encode(self) -> bytes:
        """Its bytes."""
        return encode_message(self.sender, self.spec, self.args)


class Conversation:
    """One connection, from its beginning on."""

    def __init__(self) -> None:
        self._interfaces = {DISPLAY_ID: INTERFACES["wl_display"]}
        self._splitters = {speaker: MessageSplitter() for speaker in Speaker}

    def hear(self, speaker: Speaker, data: bytes) -> Iterator[Said]:
        """Decode every message that is whole by now.

        Raises:
            LocalProtocolError: it is about an object that was never created, or
                creates one of an unknown interface.
            WaylandError: its bytes are not what they must be.
        """
        splitter = self._splitters[speaker]
        splitter.feed(data)
        while (raw := splitter.next_message()) is not None:
            yield self._decode(speaker, raw)

    def interface(self, object_id: int) -> Interface:
        """What an object is, or was when its id was last given away."""
        return self._interfaces[object_id]

    def _decode(self, speaker: Speaker, raw: RawMessage) -> Said:
        interface = self._interfaces.get(raw.object_id)
        if interface is None:
            raise LocalProtocolError(f"object {raw.object_id} was never created")
        specs = interface.requests if speaker is Speaker.APP else interface.events
        if raw.opcode >= len(specs):
            raise LocalProtocolError(f"{interface.name} has no opcode {raw.opcode}")
        spec = specs[raw.opcode]
        said = Said(speaker, raw.object_id, spec, list(read_arguments(spec, raw.data)))
        if said.created:
            self._interfaces[said.created] = _created_interface(said)
        return said


def _created_interface(said: Said) -> Interface:
    place = said.spec.new_id_index
    assert place is not None
    value = said.args[place]
    name = said.spec.args[place].interface
    if isinstance(value, NewId):
        name = value.interface.decode("utf-8", "replace")
    if name is None or name not in INTERFACES:
        raise LocalProtocolError(f"{said.spec} creates an unknown {name}")
    return INTERFACES[name]
