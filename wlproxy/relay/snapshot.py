"""Which classes a relay's snapshot may hold, and how values that are no dataclasses are written.

`Relay.snapshot` and `Relay.restore` use it.  `protocol.notation` writes dataclasses, field by
field, as they are annotated.  Fds are in a snapshot as handles.
"""

from array import array
from typing import Final, TypeVar, cast

from wlproxy.memory.guest_memory import GuestMemory, RamItems
from wlproxy.protocol.channel.extents import Extents
from wlproxy.protocol.notation import Notation, Plain, Spelling
from wlproxy.protocol.wayland.interface import Interface
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.buffers.buffer import Buffer, Pool
from wlproxy.relay.buffers.locations import Location
from wlproxy.relay.buffers.present import ImportAnswer, OrphanRelease, Reached
from wlproxy.relay.buffers.surfaces import Subsurface, Surface
from wlproxy.relay.filters.colour import Creator, Offered, Profile
from wlproxy.relay.filters.devices import Monitor
from wlproxy.relay.filters.dmabuf import Params
from wlproxy.relay.filters.frame_input import Device, Fingers, Follower, Tablets
from wlproxy.relay.filters.frame_surfaces import Viewport
from wlproxy.relay.filters.frame_windows import Popup, Positioner
from wlproxy.relay.filters.registry import Registry
from wlproxy.relay.filters.shortcuts import Inhibitor, Keys, Seat
from wlproxy.relay.filters.toplevel_list import Listed
from wlproxy.relay.frame.frames import Frames
from wlproxy.relay.frame.window import Part
from wlproxy.relay.names import Export, Session
from wlproxy.relay.offers import DataDevice, Offer, Source
from wlproxy.relay.wire.context import RelayConfig
from wlproxy.relay.wire.objects import Ignored, Muted, Question
from wlproxy.relay.wire.timestamps import FrameCallback

FORMAT: Final = "wlproxy relay 20"
"""Another number for every change of what is written."""

ROLES: Final = (
    Buffer,
    Creator,
    DataDevice,
    Device,
    Export,
    Fingers,
    Follower,
    FrameCallback,
    Inhibitor,
    Listed,
    Monitor,
    Muted,
    Offer,
    Offered,
    Params,
    Part,
    Pool,
    Popup,
    Positioner,
    Profile,
    Registry,
    Seat,
    Session,
    Source,
    Subsurface,
    Surface,
    Tablets,
    Viewport,
)
"""What filters keep about objects."""

LISTENERS: Final = (Ignored, ImportAnswer, Keys, OrphanRelease, Question, Reached)
"""What events of our own objects are waited for with."""

_WordsT = TypeVar("_WordsT", Extents, RamItems)
RootT = TypeVar("RootT")


def notation(root: type[RootT]) -> Notation[RootT]:
    """Say how a relay of this class is written."""
    return Notation(
        FORMAT,
        root,
        (*ROLES, *LISTENERS, Frames, Location),
        {
            Extents: Spelling(_write_words, lambda plain: _read_words(Extents, plain)),
            Interface: Spelling(_write_interface, _read_interface),
            RamItems: Spelling(
                _write_words, lambda plain: _read_words(RamItems, plain)
            ),
        },
        (RelayConfig, GuestMemory),
    )


def _write_interface(value: object) -> Plain:
    return cast("Interface", value).name


def _read_interface(plain: Plain) -> Interface:
    return INTERFACES[cast("str", plain)]


def _write_words(value: object) -> bytes:
    return cast("Extents | RamItems", value).words.tobytes()


def _read_words(kind: type[_WordsT], plain: Plain) -> _WordsT:
    words = array("Q", bytes.fromhex(cast("str", plain)))
    if len(words) % 2:
        raise ValueError("half a pair")
    return kind(words)
