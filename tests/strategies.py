"""Hypothesis strategies: every value the channel protocol can carry, from one source."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from wlproxy.protocol.channel.frames import (
    MAX_FILE_SIZE,
    MAX_TEXT,
    NONCE_SIZE,
    RAM_TOKEN_SIZE,
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    ClientReleased,
    CloseMemory,
    CloseReason,
    Credit,
    Data,
    Extent,
    Feature,
    FileData,
    Frame,
    Goodbye,
    Hello,
    HelloAck,
    Launch,
    LauncherOpened,
    Locate,
    Located,
    LocateStatus,
    OpenStream,
    Ping,
    Pong,
    ProveRam,
    RamProof,
    ReadMemory,
    Release,
    Released,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.rules import MAX_WINDOW, MIN_WINDOW

PAGE = 4096

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
ids = st.integers(1, 2**32 - 1)
texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    max_size=MAX_TEXT // 4,
)
payloads = st.binary(min_size=1, max_size=200)
versions = st.tuples(st.just(1), u16)
windows = st.integers(MIN_WINDOW, MAX_WINDOW)
nonces = st.binary(min_size=NONCE_SIZE, max_size=NONCE_SIZE)
features = u32.map(Feature)
reasons = st.sampled_from(CloseReason)
pages = st.integers(0, 2**52 - 1).map(lambda page: page * PAGE)

HOLDER_FLAGS = [AttachmentFlags.HOLDER_READS, AttachmentFlags.HOLDER_WRITES]
OTHER_FLAGS = [
    AttachmentFlags.NONE,
    *HOLDER_FLAGS,
    AttachmentFlags.HOLDER_READS | AttachmentFlags.HOLDER_WRITES,
]
MEMORY_FLAGS = [
    AttachmentFlags.NONE,
    AttachmentFlags.MEMORY_WRITABLE,
    AttachmentFlags.MEMORY_DMABUF,
    AttachmentFlags.MEMORY_WRITABLE | AttachmentFlags.MEMORY_DMABUF,
]


def streams(parity: int) -> st.SearchStrategy[Attachment]:
    """Streams whose ids the guest (0) or the host (1) counts."""
    return st.builds(
        Attachment,
        st.just(AttachmentKind.STREAM),
        st.sampled_from(HOLDER_FLAGS),
        st.integers(1, 2**31 - 1).map(lambda number: 2 * number + parity),
        st.just(0),
    )


others = st.builds(
    Attachment,
    st.just(AttachmentKind.OTHER),
    st.sampled_from(OTHER_FLAGS),
    u32,
    st.just(0),
)
memories = st.builds(
    Attachment,
    st.just(AttachmentKind.MEMORY),
    st.sampled_from(MEMORY_FLAGS),
    u32,
    u64,
)
files = st.builds(
    Attachment,
    st.just(AttachmentKind.FILE),
    st.just(AttachmentFlags.NONE),
    u32,
    st.integers(0, MAX_FILE_SIZE),
)


def data_frames(attachments: st.SearchStrategy[Attachment]) -> st.SearchStrategy[Data]:
    return st.builds(Data, ids, payloads, st.lists(attachments, max_size=4).map(tuple))


def failures(status: LocateStatus) -> st.SearchStrategy[int]:
    return u32 if status is LocateStatus.FAILED else st.just(0)


@st.composite
def ram_proofs(draw: st.DrawFn) -> RamProof:
    status = draw(
        st.sampled_from(
            [LocateStatus.OK, LocateStatus.NOT_PERMITTED, LocateStatus.FAILED]
        )
    )
    gpa = draw(pages) if status is LocateStatus.OK else 0
    return RamProof(status, draw(failures(status)), gpa)


@st.composite
def located_frames(draw: st.DrawFn) -> Located:
    status = draw(st.sampled_from(LocateStatus))
    if status is LocateStatus.OK:
        extents = draw(st.lists(st.builds(Extent, u64, u64), min_size=1, max_size=5))
        return Located(
            draw(ids), draw(u32), status, 0, draw(st.booleans()), (*extents,)
        )
    return Located(draw(ids), draw(u32), status, draw(failures(status)), False, ())


@st.composite
def locate_frames(draw: st.DrawFn) -> Locate:
    offset = draw(st.integers(0, 2**64 - 2))
    length = draw(st.integers(1, 2**64 - 1 - offset))
    return Locate(draw(ids), draw(u32), draw(u32), offset, length, draw(u32))


def _without_odd_grants(ack: HelloAck) -> HelloAck:
    """Grants are of 4096 bytes, and so are the pages of who has them."""
    odd = Feature.GRANTS if ack.page_size != PAGE else Feature.NONE
    return replace(ack, features=ack.features & ~odd)


@st.composite
def read_frames(draw: st.DrawFn) -> ReadMemory:
    length = draw(st.integers(1, 2**32 - 1))
    offset = draw(st.integers(0, 2**63 - 1 - length))
    stream_id = 2 * draw(st.integers(0, 2**31 - 1)) + 1
    return ReadMemory(draw(ids), draw(u32), stream_id, offset, length)


hellos = st.builds(Hello, nonces, versions, features, windows, windows, ids)
hello_acks = st.builds(
    HelloAck,
    nonces,
    versions,
    features,
    st.sampled_from([4096, 8192, 16384, 32768, 65536]),
    windows,
    windows,
    u64,
    texts,
).map(_without_odd_grants)

BOTH_WAYS: dict[type[Frame], st.SearchStrategy[Frame]] = {
    Goodbye: st.builds(Goodbye, reasons, texts),
    Ping: st.builds(Ping, u64),
    Pong: st.builds(Pong, u64, u64),
    ClientClosed: st.builds(ClientClosed, ids, reasons, texts),
    StreamData: st.builds(StreamData, ids, ids, payloads),
    StreamClosed: st.builds(StreamClosed, ids, ids, reasons),
    Credit: st.builds(Credit, ids, u32, ids),
}
HOST_FRAMES: dict[type[Frame], st.SearchStrategy[Frame]] = BOTH_WAYS | {
    Hello: hellos,
    ProveRam: st.builds(
        ProveRam, st.binary(min_size=RAM_TOKEN_SIZE, max_size=RAM_TOKEN_SIZE)
    ),
    ClientReleased: st.builds(ClientReleased, ids),
    Launch: st.builds(
        Launch, ids, st.integers(0, 2**31 - 6).map(lambda number: 2 * number + 1)
    ),
    Data: data_frames(streams(1) | files),
    FileData: st.builds(FileData, ids, u32, payloads),
    OpenStream: st.builds(
        OpenStream,
        ids,
        u32,
        st.integers(0, 2**31 - 1).map(lambda number: 2 * number + 1),
        st.sampled_from(HOLDER_FLAGS),
    ),
    ReadMemory: read_frames(),
    Locate: locate_frames(),
    Release: st.builds(Release, ids, u32),
    CloseMemory: st.builds(CloseMemory, ids, u32),
}
"""What a host may say, legal in itself."""
GUEST_FRAMES: dict[type[Frame], st.SearchStrategy[Frame]] = BOTH_WAYS | {
    HelloAck: hello_acks,
    RamProof: ram_proofs(),
    ClientOpened: st.builds(ClientOpened, ids, u32, u32, u32, texts),
    LauncherOpened: st.builds(LauncherOpened, ids, u32, texts),
    Data: data_frames(streams(0) | memories | others),
    Located: located_frames(),
    Released: st.builds(Released, ids, u32),
}
"""What a guest may say, legal in itself."""

host_frames = st.one_of(*HOST_FRAMES.values())
guest_frames = st.one_of(*GUEST_FRAMES.values())
frames: st.SearchStrategy[Frame] = host_frames | guest_frames


@st.composite
def chunked(draw: st.DrawFn, data: bytes, most: int = 8) -> list[bytes]:
    """Cut `data` into at most `most` pieces, anywhere; some may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=most - 1)))
    edges = [0, *cuts, len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
"""What JSON can carry."""


@st.composite
def damaged(draw: st.DrawFn, plain: object) -> object:
    """Plain values of which one is another, or missing."""
    whole: list[Any] = [json.loads(json.dumps(plain))]
    at: Any = whole
    key: Any = 0
    while isinstance(at[key], dict | list) and at[key]:
        at = at[key]
        key = draw(
            st.sampled_from(list(at) if isinstance(at, dict) else range(len(at)))
        )
        if draw(st.integers(0, 9)) == 9:
            break
    if draw(st.booleans()):
        del at[key]
    else:
        at[key] = draw(plain_values)
    return whole[0] if whole else None
