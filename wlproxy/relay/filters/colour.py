"""Colour management: ICC profiles, which are in files of the guest's.

`set_icc_file` passes a file that the compositor maps.  It cannot map one of the guest's, so the
host reads that (`ReadMemory`), and passes a file of its own with the same contents, which nobody
can change any more.  That is done when the app asks for the image description: `create` waits for it, and so do the
app's requests behind it.  What is wrong with the file is judged here, by the protocol's own
errors; what the profile says, by the compositor alone.  A file that cannot be read is no error: the
compositor is given what is no profile, and the app is told of its failure by `failed`.

A profile of the host's goes to the guest as any file does (`wire.passed_fds`).
"""

from dataclasses import dataclass
from typing import Final

from wlproxy.protocol.channel.frames import (
    AttachmentFlags,
    AttachmentKind,
    CloseMemory,
    ReadMemory,
)
from wlproxy.relay.commands import CreateFile, ReadFile
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import FileRead
from wlproxy.relay.policy_tree import Switch
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import ProtocolObject

FEATURE_ICC: Final = 0
"""`icc_v2_v4` of wp_color_manager_v1.feature: `create_icc_creator` may be sent."""

UNSUPPORTED_FEATURE: Final = 0
"""The code of wp_color_manager_v1.error that goes with it."""

INCOMPLETE_SET: Final = 0
ALREADY_SET: Final = 1
BAD_FD: Final = 2
BAD_SIZE: Final = 3
OUT_OF_FILE: Final = 4
"""Codes of wp_image_description_creator_icc_v1.error."""

OPERATING_SYSTEM: Final = 2
"""A cause of wp_image_description_v1.failed: what the app is not to blame for."""

MAX_PROFILE: Final = 32 << 20
"""Bytes of a profile, by the protocol."""

LEAST_COST: Final = 1 << 20
"""Bytes that a profile counts for at least: compositors make tables of the smallest, too."""

NO_PROFILE: Final = bytes(1)
"""What stands for a profile that could not be read; each has a header of 128 bytes."""

UNREAD: Final = b"wlproxy: the host could not read the profile"


@dataclass(frozen=True, slots=True)
class Offered:
    """The role of a colour manager that was said to take profiles."""


@dataclass(slots=True, eq=False)
class Creator:
    """The role of what collects a profile.

    Attributes:
        memory_id: the file that it is in.
        offset: its first byte there.
        length: bytes; 0: none was set yet.
        handle: the host's copy, which is being read or has been.
        done: nothing is waited for any more.
    """

    memory_id: int = 0
    offset: int = 0
    length: int = 0
    handle: Handle | None = None
    done: bool = False

    @property
    def cost(self) -> int:
        """Bytes that it counts for."""
        return max(self.length, LEAST_COST)


@dataclass(frozen=True, slots=True)
class Profile:
    """The role of an image description that was made of a profile.

    Attributes:
        cost: what it counts for until the app has destroyed it; 0: it was not read.
    """

    cost: int


def offer_feature(state: ClientState, event: Event) -> None:
    """`wp_color_manager_v1.supported_feature`: profiles only if the guest may have them read."""
    if event.integer("feature") == FEATURE_ICC:
        if not _may_read(state.context):
            return
        event.object.role = Offered()
    state.forward_event(event.object, event.spec, event.raw)


def create_icc_creator(state: ClientState, request: Request) -> None:
    """`wp_color_manager_v1.create_icc_creator`: an error where there is no such feature.

    Who was told that there is one is in no error when policy has changed meanwhile.

    Raises:
        WaylandError: there is none.
    """
    if not (isinstance(request.object.role, Offered) or _may_read(state.context)):
        raise request.error(UNSUPPORTED_FEATURE, "ICC profiles are not supported")
    state.forward_new(request).role = Creator()


def set_icc_file(_state: ClientState, request: Request) -> None:
    """`set_icc_file`: kept until the image description is asked for.

    Raises:
        WaylandError: by the protocol.
    """
    creator = _creator(request.object)
    offset, length = request.integers("offset", "length")
    (file,) = request.fds
    if creator.length:
        raise request.error(ALREADY_SET, "there is a profile already")
    if (
        file.kind is not AttachmentKind.MEMORY
        or AttachmentFlags.MEMORY_DMABUF in file.flags
    ):
        raise request.error(BAD_FD, "the profile is in no file that can be read")
    if not 0 < length <= MAX_PROFILE:
        raise request.error(BAD_SIZE, f"a profile of {length} bytes")
    if offset + length > file.size:
        raise request.error(
            OUT_OF_FILE, f"bytes {offset} to {offset + length} of {file.size}"
        )
    creator.memory_id, creator.offset, creator.length = file.object_id, offset, length


def profile_ready(state: ClientState, entry: ProtocolObject) -> bool:
    """Whether the profile of a creator has been read, or cannot be; if not, it will be."""
    creator = _creator(entry)
    if creator.length and not creator.done and creator.handle is None:
        _read(state, creator)
    return creator.done or not creator.length


def receive(context: Context, read: FileRead) -> None:
    """Take what the shell says of a profile."""
    creator = context.owners.get(read.handle)
    if not isinstance(creator, Creator):
        return
    creator.done = True
    if not read.whole:
        del context.owners[read.handle]
        creator.handle = None
        context.shares.copy_bytes.give_back(creator.cost)
        context.warn("a colour profile cannot be read")
    context.wake()


def create(state: ClientState, request: Request) -> None:
    """`create`: the compositor is given the profile now.

    Raises:
        WaylandError: there is none.
    """
    context, creator = state.context, _creator(request.object)
    if not creator.length:
        raise request.error(INCOMPLETE_SET, "there is no profile")
    handle, length, cost = creator.handle, creator.length, creator.cost
    if handle is None:
        handle, length, cost = context.make_handle(creator), len(NO_PROFILE), 0
        context.command(CreateFile(context.client_id, handle, NO_PROFILE))
    context.send(request.object, "set_icc_file", (None, 0, length), (handle,))
    context.close_handle(handle)
    creator.handle = None
    state.forward_new(request).role = Profile(cost)


def tell_failure(state: ClientState, event: Event) -> None:
    """`wp_image_description_v1.failed`: of what was not read, the cause is another one."""
    image = event.object
    if isinstance(image.role, Profile) and not image.role.cost and image.guest_id:
        state.context.send_event(image, "failed", (OPERATING_SYSTEM, UNREAD))
        return
    state.forward_event(image, event.spec, event.raw)


def destroy(state: ClientState, request: Request) -> None:
    """`wp_image_description_v1.destroy`: it counts no more."""
    image = request.object
    if isinstance(image.role, Profile):
        state.context.shares.copy_bytes.give_back(image.role.cost)
        image.role = None
    state.forward(request)


def _may_read(context: Context) -> bool:
    profiles = context.config.policy.windows.colour_profiles
    return context.config.reads_files and profiles is Switch.ON


def _creator(entry: ProtocolObject) -> Creator:
    assert isinstance(entry.role, Creator)  # as `create_icc_creator` has given it
    return entry.role


def _read(state: ClientState, creator: Creator) -> None:
    """Begin to read a profile, unless policy or the quota has something against it."""
    context, client_id = state.context, state.context.client_id
    allowed = _may_read(context)
    if not allowed or not context.shares.copy_bytes.take(creator.cost):
        if allowed:
            context.warn(
                "a colour profile is not read: of the app, or the VM, it is one too many"
            )
        context.send_frame(CloseMemory(client_id, creator.memory_id))
        creator.done = True
        return
    creator.handle = context.make_handle(creator)
    stream_id = state.new_stream()
    context.send_frame(
        ReadMemory(
            client_id, creator.memory_id, stream_id, creator.offset, creator.length
        )
    )
    context.command(ReadFile(client_id, stream_id, creator.handle, creator.length))
