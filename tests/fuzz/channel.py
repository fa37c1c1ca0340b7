"""The channel's decoder and sessions, fed with what nobody should send.

* Whatever comes in, nothing but `ChannelError` comes out.
* What is decoded is encoded again as the same bytes, whatever chunks it came in.
* However a session was garbled, the next handshake is found behind its padding.
"""

from contextlib import suppress

from tests.fuzz.choices import Choices
from tests.fuzz.finding import FindingError
from tests.protocol.channel.vectors import BLOCKS, payload_of
from wlproxy.protocol.channel.codec import HEADER, FrameDecoder, Resync, encode_frame
from wlproxy.protocol.channel.frames import (
    MAX_PAYLOAD,
    RESYNC_PADDING,
    VERSION_MAJOR,
    VERSION_MINOR,
    Feature,
    Frame,
    FrameType,
    Hello,
    HelloAck,
    Side,
)
from wlproxy.protocol.channel.session import Session, SessionState
from wlproxy.protocol.errors import ChannelError

EXAMPLES = [payload_of(dump) for _, dump in BLOCKS]
VERSION = (VERSION_MAJOR, VERSION_MINOR)
WINDOW = 65536


class Wire:
    """A decoder and both sessions, on one stream of frames true and false.

    Attributes:
        messages: how many frames were sent.
    """

    def __init__(self, choices: Choices) -> None:
        self.messages = 0
        self._choices = choices
        self._intact: list[bytes] = []
        """The frames before the first that is not quite one."""
        self._all_intact = True

    def run(self) -> None:
        """Have it happen.

        Raises:
            AssertionError: something is wrong with a decoder or a session.
        """
        stream = b""
        while self._choices.more:
            stream += self._piece()
            self.messages += 1
        self._decode(stream)
        self._garble_host(stream)
        self._garble_guest(stream)

    def _piece(self) -> bytes:
        """Choose a frame; now and then not quite one."""
        choices = self._choices
        if choices.chance(5):
            self._all_intact = False
            return choices.data(40)
        example = choices.pick(EXAMPLES)
        piece = bytearray(example)
        while choices.chance(20):
            at = choices.number(len(piece))
            match choices.number(3):
                case 0:
                    piece[at] = choices.number(256)
                case 1:
                    del piece[at:]
                case _:
                    piece[at:at] = choices.data(8)
            if not piece:
                break
        self._all_intact &= piece == example
        if self._all_intact:
            self._intact.append(example)
        return bytes(piece)

    def _decode(self, stream: bytes) -> None:
        whole = _frames(stream, [len(stream)])
        if [
            encode_frame(frame) for frame in whole[: len(self._intact)]
        ] != self._intact:
            raise FindingError(f"frames are lost or changed: {stream.hex()}")
        again = b"".join(encode_frame(frame) for frame in whole)
        # Frames that may be skipped leave no trace; all else is there to the letter.
        if _frames(again, [len(again)]) != whole:
            raise FindingError(f"{whole} is not what it is once encoded and decoded")
        cuts = [self._choices.number(50) + 1 for _ in range(len(stream) // 8 + 1)]
        if _frames(stream, cuts) != whole:
            raise FindingError(
                f"in pieces of {cuts} it is something else: {stream.hex()}"
            )

    def _garble_host(self, stream: bytes) -> None:
        host = Session(Side.HOST)
        nonce = bytes(range(16))
        host.start(Hello(nonce, VERSION, Feature(7), WINDOW, WINDOW, 9))
        host.feed(stream)
        with suppress(ChannelError):
            while host.next_frame() is not None:
                pass
        host.start(Hello(b"n" * 16, VERSION, Feature(7), WINDOW, WINDOW, 9))
        ack = HelloAck(b"n" * 16, VERSION, Feature(0), 4096, WINDOW, WINDOW, 0, "x")
        host.feed(stream + bytes(RESYNC_PADDING) + encode_frame(ack))
        if host.next_frame() != ack:
            raise FindingError(
                f"the host does not find the answer behind {stream.hex()}"
            )

    def _garble_guest(self, stream: bytes) -> None:
        guest = Session(Side.GUEST)
        hello = Hello(b"n" * 16, VERSION, Feature(7), WINDOW, WINDOW, 9)
        guest.feed(stream)
        if hello in _served(guest):
            raise FindingError("the guest has seen a host that was not there yet")
        if self._choices.chance(30):  # an interrupted frame, as long as there are
            length = MAX_PAYLOAD - self._choices.number(20)
            guest.feed(
                encode_frame(Hello(b"o" * 16, VERSION, Feature(7), WINDOW, WINDOW, 9))
            )
            guest.feed(HEADER.pack(length, FrameType.DATA, 0, 1))
            _served(guest)
        guest.feed(bytes(RESYNC_PADDING) + encode_frame(hello))
        if hello not in _served(guest):
            raise FindingError(
                f"the guest does not find the host behind {stream.hex()}"
            )


def _served(guest: Session) -> list[Frame]:
    """Take what a guest's session has, as the agent does: every host is accepted."""
    found: list[Frame] = []
    while True:
        try:
            frame = guest.next_frame()
        except ChannelError:
            continue  # it looks for the next session in what it has
        if frame is None:
            return found
        found.append(frame)
        if guest.state is SessionState.OFFERED and isinstance(frame, Hello):
            guest.accept(
                HelloAck(frame.nonce, VERSION, Feature(0), 4096, WINDOW, WINDOW, 0, "")
            )


def _frames(stream: bytes, sizes: list[int]) -> list[Frame]:
    """Decode a stream up to its end, or to what ends it."""
    decoder = FrameDecoder()
    found: list[Frame] = []
    at = 0
    for size in [*sizes, len(stream)]:
        decoder.feed(stream[at : at + size])
        at += size
        try:
            while (frame := decoder.next_frame()) is not None:
                if isinstance(frame, Resync):
                    return found
                found.append(frame)
        except ChannelError:
            return found
    return found
