"""Faults put into wlproxy on purpose: a fuzzer that does not find them finds nothing.

A mutant is a piece of source that is replaced as its module is imported, in a process of
its own.  Each is a fault that somebody could make, and that nothing would show at once.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault.

    Attributes:
        target: the fuzz target that has to find it.
        module: where it is.
        old: the source that is replaced, which must be there once.
        new: what it is replaced by.
    """

    target: str
    module: str
    old: str
    new: str


def _restored(target: str, read: str) -> Mutant:
    """Have what was written down be read otherwise: `read` instead of `values[key]`."""
    return Mutant(
        target,
        "wlproxy.protocol.notation",
        "form.read(values[key], reader)",
        f"form.read({read}, reader)",
    )


MUTANTS = {
    "object-types-of-requests": Mutant(
        "relay",
        "wlproxy.relay.wire.forwarding",
        "entry.interface.name:\n            raise WaylandError(",
        "entry.interface.name and False:\n            raise WaylandError(",
    ),
    "object-types-of-events": Mutant(
        "relay",
        "wlproxy.relay.wire.forwarding",
        "entry.interface.name:\n            raise CompositorError(",
        "entry.interface.name and False:\n            raise CompositorError(",
    ),
    "handle-freed-twice": Mutant(
        "relay",
        "wlproxy.relay.wire.context",
        "self.command(CloseHandle(self.client_id, handle))",
        "[self.command(CloseHandle(self.client_id, handle)) for _ in '12']",
    ),
    "fd-used-twice": Mutant(
        "relay",
        "wlproxy.protocol.wayland.wire",
        "    del fds[: spec.fd_count]\n",
        "",
    ),
    "versions": Mutant(
        "relay",
        "wlproxy.protocol.wayland.wire",
        "if spec.since <= version:",
        "if True:",
    ),
    "zombies": Mutant(
        "relay",
        "wlproxy.relay.wire.forwarding",
        "if not entry.guest_id:\n            self._drop_event",
        "if False:\n            self._drop_event",
    ),
    "quota-kept": Mutant(
        "relay",
        "wlproxy.relay.buffers.locations",
        "shares.located_bytes.give_back(location.length)",
        "shares.located_bytes.give_back(0)",
    ),
    "extents-unchecked": Mutant(
        "relay",
        "wlproxy.relay.buffers.locations",
        "check_extents(location.extents, 0, location.length, page_size, pages)",
        "pass",
    ),
    "restored-without-a-count-of-surfaces": _restored(
        "relay", '0 if key == "shown" else values[key]'
    ),
    "restored-without-the-request-that-waits": _restored(
        "relay", 'None if key == "stalled" else values[key]'
    ),
    "restored-without-partial-input": _restored(
        "relay", '"" if key == "buffer" else values[key]'
    ),
    "restored-without-who-waits-for-pages": _restored(
        "relay", '[] if key == "locating" else values[key]'
    ),
    "restored-with-credit-owed-twice": _restored(
        "relay", '2 * values[key] if key == "owed" else values[key]'
    ),
    "restored-without-frame-callbacks": _restored(
        "relay", 'None if "FrameCallback" in str(values[key]) else values[key]'
    ),
    "restored-without-the-last-id": _restored(
        "relay", '0 if key == "last" else values[key]'
    ),
    "restored-with-two-of-one-quota": Mutant(
        "relay",
        "wlproxy.protocol.notation",
        "if key not in self._made:",
        'if key not in self._made or record.name == "Quota":',
    ),
    "restored-in-another-order": _restored(
        "relay", 'values[key][::-1] if key == "free" else values[key]'
    ),
    "restored-with-credit-counted-twice": _restored(
        "lanes", '2 * values[key] if key == "available" else values[key]'
    ),
    "restored-without-what-waits": _restored(
        "lanes", '[] if key == "ordered" else values[key]'
    ),
    "restored-without-turns": _restored(
        "lanes", '[] if key == "round" else values[key]'
    ),
    "restored-without-who-is-woken": _restored(
        "lanes", '[] if key == "woken" else values[key]'
    ),
    "payload-left-over": Mutant(
        "channel",
        "wlproxy.protocol.channel.codec",
        "del self._buffer[:end]\n                return frame",
        "del self._buffer[: end - (length > 40)]\n                return frame",
    ),
    "padding-unfound": Mutant(
        "channel",
        "wlproxy.protocol.channel.frames",
        "RESYNC_PADDING = HEADER_SIZE + MAX_PAYLOAD + HEADER_SIZE",
        "RESYNC_PADDING = MAX_PAYLOAD // 2",
    ),
    "credit-counted-twice": Mutant(
        "lanes",
        "wlproxy.protocol.channel.flow",
        "self.available += amount",
        "self.available += 2 * amount",
    ),
    "credit-kept": Mutant(
        "lanes",
        "wlproxy.protocol.channel.flow",
        "self.held -= amount\n        self._ungranted += amount",
        "self.held -= amount\n        self._ungranted += amount - (amount > 9)",
    ),
    "wake-up-lost": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.engine",
        "streams=bool(lane.stream_id))\n        self._clients.woken.add(lane)",
        "streams=bool(lane.stream_id))",
    ),
    "turn-lost": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.engine",
        "self._due(lane.client_id, streams=bool(lane.stream_id))",
        "self._due(lane.client_id, streams=False)",
    ),
    "stream-before-its-attachment": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.lane",
        "if not self.announced:",
        "if False:",
    ),
    "end-before-the-last-bytes": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.engine",
        "elif stream.chunks or not stream.announced:",
        "elif not stream.announced:",
    ),
    "lane-leaks": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.clients",
        "if client.connection is None and not client.streams:",
        "if client.connection is None and not client.streams and client_id != 2:",
    ),
    "named-stream-leaks": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.clients",
        "if not one.attached]",
        "if False]",
    ),
    "named-stream-is-another-when-attached": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.clients",
        "        if stream is None or stream.attached:",
        "        self.streams(lane.client_id).pop(lane.stream_id, None)\n"
        "        if stream is None or stream is not None:",
    ),
    "one-stream-too-many": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.clients",
        "if not self._fits(client):\n            return",
        "if not self._fits(client):\n            self.stream_count += 1\n            return",
    ),
    "waiting-bytes-are-counted-twice": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.lane",
        "self.waiting += file.kept",
        "self.waiting += 2 * file.kept",
    ),
    "stream-leaks": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.engine",
        'if not stream.peer_ended:\n            return b""\n        '
        "self._clients.forget_stream(lane)",
        'if not stream.peer_ended:\n            return b""',
    ),
    "both-wait-to-say-that-they-leave": Mutant(
        "lanes",
        "wlproxy.protocol.channel.lanes.engine",
        "if connection.leaving and (grant",
        "if connection.closed and not connection.leaving and (grant",
    ),
    "string-padding": Mutant(
        "wire",
        "wlproxy.protocol.wayland.wire",
        "return WORD_SIZE + (length + WORD_SIZE - 1) // WORD_SIZE * WORD_SIZE",
        "return WORD_SIZE + (length + WORD_SIZE) // WORD_SIZE * WORD_SIZE",
    ),
}


def install(mutant: Mutant) -> None:
    """Have a module imported with a mutant in it."""
    if mutant.module in sys.modules:
        raise RuntimeError(f"{mutant.module} is there already")
    sys.meta_path.insert(0, _Finder(mutant))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin, self._mutant)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, mutant: Mutant) -> None:
        super().__init__(fullname, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        source = Path(self.path).read_text(encoding="utf-8")
        times = source.count(self._mutant.old)
        if times != 1:
            raise RuntimeError(f"{self.path} has {times} times: {self._mutant.old}")
        changed = source.replace(self._mutant.old, self._mutant.new)
        return compile(changed, self.path, "exec", dont_inherit=True)
