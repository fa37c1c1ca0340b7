import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.errors import LocalProtocolError, WaylandError
from wlproxy.protocol.wayland.interface import ArgKind, ArgSpec, Interface, MessageSpec
from wlproxy.protocol.wayland.message import (
    DISPLAY_ID,
    ArgValue,
    DisplayError,
    Message,
    NewId,
    RawMessage,
)
from wlproxy.protocol.wayland.wire import (
    MAX_MESSAGE_SIZE,
    MessageSplitter,
    Translate,
    decode_message,
    encode_message,
    event_spec,
    locate_ids,
    readdress,
    request_spec,
    rewrite_ids,
)

# ---------------------------------------------------------------- any message at all

Item = tuple[MessageSpec, Message[int]]

UINT32 = st.integers(0, 0xFFFFFFFF)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
IDS = st.integers(1, 0xFFFFFFFF)
INTERFACE_NAMES = st.sampled_from(["wl_surface", "wl_buffer", "wl_callback"])
BLOBS = st.binary(max_size=40)
STRINGS = BLOBS.map(lambda data: data.replace(b"\0", b"?"))

ARG_SPECS = st.one_of(
    st.builds(
        ArgSpec,
        st.sampled_from(
            [ArgKind.INT, ArgKind.UINT, ArgKind.FIXED, ArgKind.ARRAY, ArgKind.FD]
        ),
    ),
    st.builds(ArgSpec, st.just(ArgKind.STRING), st.booleans()),
    st.builds(
        ArgSpec, st.just(ArgKind.OBJECT), st.booleans(), st.none() | INTERFACE_NAMES
    ),
    st.builds(
        ArgSpec, st.just(ArgKind.NEW_ID), st.just(False), st.none() | INTERFACE_NAMES
    ),
)
SPECS = st.builds(
    MessageSpec,
    st.just("test_thing"),
    st.just("message"),
    st.integers(0, 0xFFFF),
    st.just(1),
    st.lists(ARG_SPECS, max_size=8).map(tuple),
)


def values_of(arg: ArgSpec) -> st.SearchStrategy[ArgValue]:
    match arg.kind:
        case ArgKind.INT | ArgKind.FIXED:
            return INT32
        case ArgKind.UINT:
            return UINT32
        case ArgKind.STRING:
            return STRINGS | st.none() if arg.nullable else STRINGS
        case ArgKind.ARRAY:
            return BLOBS
        case ArgKind.OBJECT:
            return IDS | st.just(0) if arg.nullable else IDS
        case ArgKind.NEW_ID:
            untyped = st.builds(NewId, STRINGS, UINT32, IDS)
            return IDS if arg.interface else untyped
        case ArgKind.FD:
            return st.none()


@st.composite
def messages(draw: st.DrawFn) -> Item:
    """A spec and a message that has that shape; its fds are numbers."""
    spec = draw(SPECS)
    args = tuple(draw(values_of(arg)) for arg in spec.args)
    return spec, Message(draw(UINT32), spec.opcode, args, tuple(range(spec.fd_count)))


def encoded(spec: MessageSpec, message: Message[int]) -> bytes:
    return encode_message(message.object_id, spec, message.args)


def split(data: bytes | bytearray) -> list[RawMessage]:
    splitter = MessageSplitter()
    splitter.feed(data)
    return drain(splitter)


def drain(splitter: MessageSplitter) -> list[RawMessage]:
    found = []
    while (message := splitter.next_message()) is not None:
        found.append(message)
    return found


def raw(body: bytes = b"", *, object_id: int = 5, opcode: int = 0) -> RawMessage:
    header = struct.pack("=II", object_id, (8 + len(body)) << 16 | opcode)
    return RawMessage(object_id, opcode, bytearray(header + body))


def words(*values: int) -> bytes:
    return struct.pack(f"={len(values)}I", *values)


# ---------------------------------------------------------------- splitting


@given(st.lists(messages(), max_size=5), st.data())
def test_any_chunking_gives_the_same_messages(
    sent: list[Item], data: st.DataObject
) -> None:
    stream = b"".join(encoded(*item) for item in sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    splitter = MessageSplitter()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        splitter.feed(stream[start:end])
        if data.draw(st.booleans()):  # a shell need not drain after every feed
            found += drain(splitter)
    found += drain(splitter)
    assert found == split(stream)
    assert [message.data for message in found] == [encoded(*item) for item in sent]
    assert splitter.pending == 0


def test_byte_by_byte() -> None:
    stream = encode_message(3, MessageSpec("wl_surface", "commit", 6, 1, ()), ())
    splitter = MessageSplitter()
    for count, byte in enumerate(stream, 1):
        assert splitter.next_message() is None
        splitter.feed(bytes([byte]))
        assert splitter.pending == count
    assert splitter.next_message() == RawMessage(3, 6, bytearray(stream))


def test_a_message_owns_its_bytes() -> None:
    one = raw(words(1)).data
    splitter = MessageSplitter()
    splitter.feed(one + one)
    first, second = drain(splitter)
    first.data[:] = bytes(len(first.data))
    assert second.data == one


def test_messages_are_taken_where_they_lie() -> None:
    one, two = raw(words(1), opcode=3).data, raw(object_id=9).data
    splitter = MessageSplitter()
    splitter.feed(one + two + one[:-1])

    assert list(splitter.messages(1)) == [(5, 3, 12)]
    assert splitter.pending == len(two) + len(one) - 1
    assert list(splitter.messages(5)) == [(9, 0, 20)]
    readdress(splitter.buffer, 12, 7)
    assert splitter.buffer[12:20] == raw(object_id=7).data
    splitter.feed(one[-1:])
    assert list(splitter.messages(5)) == [(5, 3, 12)]
    assert splitter.pending == 0


def test_what_is_before_a_bad_message_is_taken() -> None:
    splitter = MessageSplitter()
    splitter.feed(raw().data + struct.pack("=II", 5, 7 << 16))
    found: list[tuple[int, int, int]] = []
    with pytest.raises(WaylandError):
        found.extend(splitter.messages(5))
    assert (found, splitter.start) == ([(5, 0, 8)], 8)
    with pytest.raises(WaylandError):
        next(splitter.messages(5))


def test_the_longest_message() -> None:
    longest = raw(bytes(MAX_MESSAGE_SIZE - 8)).data
    assert [message.data for message in split(longest)] == [longest]


@pytest.mark.parametrize("size", [0, 1, 4, 7, 9, 10, 4097, 0xFFFF])
def test_an_impossible_size_is_refused_at_once(size: int) -> None:
    good = raw(words(1)).data
    splitter = MessageSplitter()
    splitter.feed(good + struct.pack("=II", 5, size << 16))
    assert splitter.next_message() is not None, "what came before it is good"
    for _ in range(2):
        with pytest.raises(WaylandError) as caught:
            splitter.next_message()
        assert caught.value.object_id == DISPLAY_ID
        assert caught.value.code is DisplayError.INVALID_METHOD


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_garbage_gives_messages_or_the_documented_error(chunks: list[bytes]) -> None:
    splitter = MessageSplitter()
    size = 0
    try:
        for chunk in chunks:
            splitter.feed(chunk)
            size += sum(len(found.data) for found in drain(splitter))
    except WaylandError:
        return
    assert size + splitter.pending == sum(map(len, chunks))


# ---------------------------------------------------------------- which message it is


def test_messages_are_found_by_opcode_and_version() -> None:
    old = MessageSpec("test_thing", "old", 0, 1, ())
    new = MessageSpec("test_thing", "new", 1, 3, ())
    done = MessageSpec("test_thing", "done", 0, 1, ())
    interface = Interface("test_thing", 3, (old, new), (done,))
    assert request_spec(interface, 1, 5, 0) is old
    assert request_spec(interface, 3, 5, 1) is new
    assert event_spec(interface, 1, 5, 0) is done
    for find, version, opcode in (
        (request_spec, 2, 1),
        (request_spec, 3, 2),
        (event_spec, 3, 1),
        (event_spec, 3, 0xFFFF),
    ):
        with pytest.raises(WaylandError, match=f"test_thing@5 .* opcode {opcode}") as e:
            find(interface, version, 5, opcode)
        assert (e.value.object_id, e.value.code) == (1, 1)


# ---------------------------------------------------------------- decode and encode


@given(messages())
def test_round_trip(item: Item) -> None:
    spec, message = item
    data = encoded(spec, message)
    (found,) = split(data)
    of_the_next = len(message.fds)
    fds = [*message.fds, of_the_next]
    assert decode_message(spec, found, fds) == message
    assert fds == [of_the_next]
    assert spec.size in (None, len(data))


@given(messages(), st.data())
def test_damaged_messages_are_decoded_or_refused(
    item: Item, data: st.DataObject
) -> None:
    spec, message = item
    body = bytearray(encoded(spec, message)[8:])
    for _ in range(data.draw(st.integers(0, 3))):
        place = 4 * data.draw(st.integers(0, len(body) // 4))
        word = words(data.draw(st.integers(0, 64) | UINT32))
        body[place : place + data.draw(st.sampled_from([0, 4, 8]))] = word
    damaged = raw(bytes(body))
    fds = list(message.fds)
    try:
        decoded = decode_message(spec, damaged, fds)
    except WaylandError:
        assert fds == list(message.fds)
        with pytest.raises(WaylandError):
            locate_ids(spec, damaged)
    else:
        if not spec.has_untyped_new_id:
            locate_ids(spec, damaged)
        (again,) = split(encode_message(5, spec, decoded.args))
        assert len(again.data) == len(damaged.data)
        redecoded = decode_message(spec, again, list(message.fds))
        assert redecoded.args == decoded.args


NO_FDS: list[int] = []

TEXT = ArgSpec(ArgKind.STRING)
ARRAY = ArgSpec(ArgKind.ARRAY)
OBJECT = ArgSpec(ArgKind.OBJECT)
NEW = ArgSpec(ArgKind.NEW_ID, interface="wl_surface")
UNTYPED = ArgSpec(ArgKind.NEW_ID)


@pytest.mark.parametrize(
    ("arg", "body", "problem"),
    [
        (OBJECT, words(0), "may not be null"),
        (NEW, words(0), "may not be null"),
        (OBJECT, b"", "8 bytes instead of 12"),
        (OBJECT, words(1, 2), "16 bytes instead of 12"),
        (TEXT, b"", "exceeds"),
        (TEXT, words(0), "may not be null"),
        (TEXT, words(1), "exceeds"),
        (TEXT, words(5, 0), "exceeds"),
        (TEXT, words(0xFFFFFFFF, 0), "exceeds"),
        (TEXT, words(4) + b"abcd", "NUL"),
        (TEXT, words(4) + b"a\0b\0", "NUL"),
        (TEXT, words(4) + b"abc\0" + words(0), "20 bytes instead of 16"),
        (ARRAY, b"", "exceeds"),
        (ARRAY, words(1), "exceeds"),
        (ARRAY, words(0, 0), "16 bytes instead of 12"),
        (UNTYPED, words(4) + b"abc\0" + words(1, 0), "may not be null"),
        (UNTYPED, words(4) + b"abc\0" + words(1), "20 bytes instead of 24"),
        (UNTYPED, words(0, 1, 2), "may not be null"),
    ],
)
def test_malformed_arguments(arg: ArgSpec, body: bytes, problem: str) -> None:
    spec = MessageSpec("test_thing", "message", 0, 1, (arg,))
    with pytest.raises(
        WaylandError, match=rf"test_thing\.message: .*{problem}"
    ) as caught:
        decode_message(spec, raw(body), NO_FDS)
    assert caught.value.object_id == DISPLAY_ID
    assert caught.value.code is DisplayError.INVALID_METHOD


def test_a_string_cut_within_its_padding_is_refused() -> None:
    # Unaligned messages do not come out of the splitter; the decoder trusts nobody.
    spec = MessageSpec("test_thing", "message", 0, 1, (TEXT,))
    with pytest.raises(WaylandError, match="14 bytes instead of 16"):
        decode_message(spec, raw(words(2) + b"a\0"), NO_FDS)


def test_padding_may_hold_anything() -> None:
    spec = MessageSpec("test_thing", "message", 0, 1, (TEXT, ARRAY))
    body = words(2) + b"a\0zz" + words(1) + b"bzzz"
    message = decode_message(spec, raw(body), NO_FDS)
    assert message.args == (b"a", b"b")


def test_an_empty_string_is_not_null() -> None:
    spec = MessageSpec("t", "m", 0, 1, (ArgSpec(ArgKind.STRING, nullable=True),))
    assert encode_message(5, spec, (b"",)) == raw(words(1, 0)).data
    assert encode_message(5, spec, (None,)) == raw(words(0)).data


def test_missing_fds_are_refused_and_none_taken() -> None:
    spec = MessageSpec("t", "m", 0, 1, (ArgSpec(ArgKind.FD), ArgSpec(ArgKind.FD)))
    fds = ["only one"]
    with pytest.raises(WaylandError, match="2 fds needed, 1 received"):
        decode_message(spec, raw(), fds)
    assert fds == ["only one"]


@pytest.mark.parametrize(
    ("arg", "value"),
    [
        (ArgSpec(ArgKind.INT), 1 << 31),
        (ArgSpec(ArgKind.UINT), -1),
        (ArgSpec(ArgKind.UINT), b"1"),
        (ArgSpec(ArgKind.FIXED), None),
        (ArgSpec(ArgKind.FD), 3),
        (OBJECT, 0),
        (OBJECT, None),
        (NEW, 0),
        (NEW, NewId(b"wl_shm", 1, 2)),
        (UNTYPED, 7),
        (UNTYPED, NewId(b"wl_shm", 1, 0)),
        (TEXT, None),
        (TEXT, b"a\0b"),
        (ARRAY, None),
        (ARRAY, bytes(MAX_MESSAGE_SIZE - 8)),
    ],
)
def test_what_cannot_be_sent_is_our_mistake(arg: ArgSpec, value: ArgValue) -> None:
    spec = MessageSpec("test_thing", "message", 0, 1, (arg,))
    with pytest.raises(LocalProtocolError, match=r"test_thing\.message"):
        encode_message(5, spec, (value,))


def test_the_number_of_arguments_must_fit() -> None:
    spec = MessageSpec("test_thing", "message", 0, 1, (OBJECT,))
    for args in ((), (1, 2)):
        with pytest.raises(LocalProtocolError, match="takes 1 argument"):
            encode_message(5, spec, args)


def test_the_longest_message_can_be_encoded() -> None:
    spec = MessageSpec("test_thing", "message", 0, 1, (ARRAY,))
    data = encode_message(5, spec, (bytes(MAX_MESSAGE_SIZE - 12),))
    assert len(data) == MAX_MESSAGE_SIZE
    assert len(split(data)) == 1


# ---------------------------------------------------------------- translation in place


def other_id(value: int) -> int:
    return value % 0xFFFFFFFF + 1


@given(messages().filter(lambda item: not item[0].has_untyped_new_id), UINT32)
def test_translating_in_place_equals_decoding_and_encoding(
    item: Item, sender_id: int
) -> None:
    spec, message = item
    seen: list[tuple[ArgValue, ArgSpec]] = []

    def translate(kind: ArgKind) -> Translate:
        def translated(value: int, arg: ArgSpec) -> int:
            assert arg.kind is kind
            seen.append((value, arg))
            return other_id(value)

        return translated

    (found,) = split(encoded(spec, message))
    objects, new_ids = translate(ArgKind.OBJECT), translate(ArgKind.NEW_ID)
    rewrite_ids(spec, found, sender_id, objects, new_ids)

    ids = [
        (value, arg)
        for arg, value in zip(spec.args, message.args, strict=True)
        if arg.kind in (ArgKind.OBJECT, ArgKind.NEW_ID) and value
    ]
    assert seen == ids
    expected = [
        other_id(value) if arg.is_id and isinstance(value, int) and value else value
        for arg, value in zip(spec.args, message.args, strict=True)
    ]
    assert found.data == encode_message(sender_id, spec, expected)


@given(messages().filter(lambda item: not item[0].has_untyped_new_id))
def test_ids_are_located_with_their_values(item: Item) -> None:
    spec, message = item
    (found,) = split(encoded(spec, message))
    located = locate_ids(spec, found)
    assert [(value, arg) for _, value, arg in located] == [
        (value, arg)
        for arg, value in zip(spec.args, message.args, strict=True)
        if arg.is_id
    ]
    for offset, value, _ in located:
        assert struct.unpack_from("=I", found.data, offset) == (value,)


def refuse_to_translate(value: int, arg: ArgSpec) -> int:
    pytest.fail(f"asked to translate {value} for {arg}")


def test_a_malformed_message_is_refused_before_anything_is_translated() -> None:
    spec = MessageSpec("test_thing", "message", 0, 1, (NEW, OBJECT, TEXT))
    for body in (
        words(7, 0, 4) + b"abc\0",
        words(7, 8, 4) + b"abcd",
        words(7, 8, 0),
    ):
        message = raw(body)
        before = bytes(message.data)
        with pytest.raises(WaylandError):
            rewrite_ids(spec, message, 1, refuse_to_translate, refuse_to_translate)
        assert message.data == before


def test_an_untyped_new_id_is_not_passed_on_undecoded() -> None:
    spec = MessageSpec("wl_registry", "bind", 0, 1, (ArgSpec(ArgKind.UINT), UNTYPED))
    bind = split(encode_message(2, spec, (1, NewId(b"wl_shm", 1, 3))))[0]
    with pytest.raises(WaylandError, match="undecoded"):
        rewrite_ids(spec, bind, 2, refuse_to_translate, refuse_to_translate)
