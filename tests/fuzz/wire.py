"""Wayland's messages: cut, decoded, translated, and encoded again.

* Whatever bytes come in, nothing but `WaylandError` comes out.
* A message that is decoded is encoded again as one that decodes to the same.
* Translating its ids in place leaves everything else as it is.
"""

from tests.fuzz.choices import Choices
from tests.fuzz.finding import FindingError
from wlproxy.protocol.errors import WaylandError
from wlproxy.protocol.wayland.interface import ArgKind, ArgSpec, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import ArgValue, NewId, RawMessage
from wlproxy.protocol.wayland.wire import (
    MessageSplitter,
    decode_message,
    encode_message,
    rewrite_ids,
)

SPECS = [
    spec
    for _, interface in sorted(INTERFACES.items())
    for spec in (*interface.requests, *interface.events)
]
SENDER = 7
SHIFT = 1000
"""What translation adds to each id here."""


class Messages:
    """A stream of messages true and false.

    Attributes:
        messages: how many there were.
    """

    def __init__(self, choices: Choices) -> None:
        self.messages = 0
        self._choices = choices

    def run(self) -> None:
        """Have it happen.

        Raises:
            AssertionError: something is wrong with the codec.
        """
        while self._choices.more:
            self.messages += 1
            spec = self._choices.pick(SPECS)
            message = self._message(spec)
            data = bytearray(message)
            if self._choices.chance(40):
                data[self._choices.number(len(data))] = self._choices.number(256)
            self._take(spec, bytes(data), intact=data == message)

    def _message(self, spec: MessageSpec) -> bytes:
        return encode_message(SENDER, spec, [self._value(arg) for arg in spec.args])

    def _value(self, arg: ArgSpec) -> ArgValue:
        choices = self._choices
        match arg.kind:
            case ArgKind.FD:
                return None
            case ArgKind.INT | ArgKind.FIXED:
                return choices.number(1 << 32) - (1 << 31)
            case ArgKind.STRING:
                return choices.data(20).replace(b"\0", b"0")
            case ArgKind.ARRAY:
                return choices.data(20)
            case ArgKind.NEW_ID if arg.interface is None:
                name = choices.data(20).replace(b"\0", b"0")
                return NewId(name, choices.number(9), 1 + choices.number(SHIFT))
            case ArgKind.NEW_ID | ArgKind.OBJECT:
                return 1 + choices.number(SHIFT)
            case _:
                return choices.number(1 << 32)

    def _take(self, spec: MessageSpec, data: bytes, *, intact: bool) -> None:
        splitter = MessageSplitter()
        at = self._choices.number(len(data) + 1)
        try:
            splitter.feed(data[:at])
            raw = splitter.next_message()
            splitter.feed(data[at:])
            raw = raw or splitter.next_message()
            if raw is None:
                if intact:
                    raise FindingError(f"{spec}: no message in {data.hex()}")
                return
            fds: list[str] = ["fd"] * spec.fd_count
            message = decode_message(spec, raw, fds)
        except WaylandError as error:
            if intact:
                raise FindingError(f"{spec}: {error}") from error
            return
        again = encode_message(raw.object_id, spec, message.args)
        copy = RawMessage(raw.object_id, raw.opcode, bytearray(again))
        decoded = decode_message(spec, copy, ["fd"] * spec.fd_count)
        if decoded.args != message.args:
            raise FindingError(f"{spec}: {message.args} becomes {decoded.args}")
        self._translate(spec, raw, message.args)

    def _translate(
        self, spec: MessageSpec, raw: RawMessage, args: tuple[ArgValue, ...]
    ) -> None:
        if any(arg.kind is ArgKind.NEW_ID and not arg.interface for arg in spec.args):
            return  # an id of any interface is for a filter to pass on

        def shifted(number: int, _arg: ArgSpec) -> int:
            return (number + SHIFT) & 0xFFFFFFFF or 1

        rewrite_ids(spec, raw, SENDER + 1, shifted, shifted)
        translated = decode_message(spec, raw, ["fd"] * spec.fd_count).args
        for arg, before, after in zip(spec.args, args, translated, strict=True):
            expected = before
            if arg.kind in (ArgKind.NEW_ID, ArgKind.OBJECT) and before:
                assert isinstance(before, int)
                expected = shifted(before, arg)
            if after != expected:
                raise FindingError(f"{spec}: {arg} is {after!r}, not {expected!r}")
