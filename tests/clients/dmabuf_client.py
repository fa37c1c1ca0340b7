"""The pattern client with dma-bufs: all that it can do, and linux-dmabuf.

    {"op": "allocate", "memory": "m", "exporter": "vgem", "width": 64, "height": 64}
    {"op": "import", "buffer": "b", "planes": [{"memory": "m"}], "width": 64, ...}

Its buffers are drawn into and shown by the operations of `pattern_client`.  Standard
library only.
"""

import mmap
import os
import struct
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.clients import pattern
from tests.clients.egl_export import Llvmpipe, Texture
from tests.clients.exporters import Allocation, Exporters
from tests.clients.pattern_client import ANSWER, Buffer, Client, Pool, serve

LINEAR = 0
FEEDBACK_SINCE = 4
TABLE_ENTRY = struct.Struct("=I4xQ")
"""A pair of the format table: DRM format, padding, modifier."""
MEMORIES = ("virtio_gpu", "vgem", "dma-heap", "udmabuf")
MESA = "llvmpipe"
"""Another exporter: its memory is a texture of OpenGL ES."""


def fourcc(code: str) -> int:
    """Make a DRM format's number of its four characters."""
    return int.from_bytes(code.encode(), "little")


@dataclass(slots=True)
class Tranche:
    """What a feedback object says of one device."""

    device: int = 0
    flags: int = 0
    formats: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Feedback:
    """What a feedback object has said."""

    table: list[tuple[int, int]] = field(default_factory=list)
    main_device: int = 0
    tranches: list[Tranche] = field(default_factory=list)
    done: bool = False
    _coming: Tranche = field(default_factory=Tranche)

    def read_table(self, fd: int, size: int) -> None:
        """Take the table; closes the fd."""
        try:
            self.table = list(TABLE_ENTRY.iter_unpack(os.pread(fd, size, 0)))
        finally:
            os.close(fd)

    def receive(self, opcode: int, data: bytes) -> None:
        """Take an event that is not the table."""
        match opcode:
            case 0:
                self.done = True
            case 2:
                (self.main_device,) = struct.unpack("=Q", _array(data))
            case 3:
                self.tranches.append(self._coming)
                self._coming = Tranche()
            case 4:
                (self._coming.device,) = struct.unpack("=Q", _array(data))
            case 5:
                indices = memoryview(_array(data)).cast("H")
                self._coming.formats += [self.table[each] for each in indices]
            case 6:
                (self._coming.flags,) = struct.unpack("=I", data)
            case _:
                raise ValueError(f"feedback event {opcode}")


@dataclass(slots=True)
class Import:
    """A `zwp_linux_buffer_params_v1`, and what became of it."""

    object_id: int
    outcome: str = ""
    buffer_id: int = 0


class DmabufClient(Client):
    """A pattern client that has dma-bufs as well."""

    def __init__(self, display: str | None = None) -> None:
        super().__init__(display)
        self._exporters = Exporters()
        self._memories: dict[str, Allocation] = {}
        self._fences: dict[str, int] = {}
        self._imports: dict[str, Import] = {}
        self._mesa: Llvmpipe | None = None
        self._textures: dict[str, Texture] = {}
        self._globals: dict[int, int] = {}
        self._told: list[tuple[int, int]] = []

    # ---- what is offered

    def op_offer(self, version: int = 5, surface: str | None = None) -> dict[str, Any]:
        """Return what linux-dmabuf says, bound at a version; by feedback from 4 on."""
        bound = self._dmabuf(version)
        if version < FEEDBACK_SINCE:
            self.wire.roundtrip(ANSWER)
            return {"formats": self._told}
        feedback = Feedback()

        def on_feedback(opcode: int, data: bytes) -> None:
            if opcode == 1:
                (size,) = struct.unpack("=I", data)
                feedback.read_table(self.wire.fds.pop(0), size)
            else:
                feedback.receive(opcode, data)

        object_id = self.wire.new(on_feedback)
        if surface is None:
            self.wire.send(bound, 2, "u", object_id)
        else:
            target = self._surfaces[surface].object_id
            self.wire.send(bound, 3, "uu", object_id, target)
        self.wire.wait(lambda: feedback.done, ANSWER)
        self.wire.send(object_id, 0)
        return {
            "formats": feedback.table,
            "main_device": feedback.main_device,
            "tranches": [asdict(each) for each in feedback.tranches],
        }

    def op_device(self, path: str) -> int:
        """Return the number of a device node."""
        return os.stat(path).st_rdev

    # ---- memory

    def op_allocate(
        self, memory: str, exporter: str, width: int, height: int, bits: int = 32
    ) -> dict[str, int]:
        """Allocate a dma-buf; returns the exporter's pitch and its size."""
        if exporter == MESA:
            made = self._export_texture(memory, width, height)
        else:
            made = self._exporters.allocate(exporter, width, height, bits)
        self._memories[memory] = made
        return {"pitch": made.pitch, "size": made.size}

    def op_free(self, memory: str) -> None:
        """Close a dma-buf, its mapping and its handle."""
        self._memories.pop(memory).free()

    def op_begin_write(self, memory: str) -> None:
        """Attach a write fence (vgem)."""
        target = self._memories[memory]
        assert target.card is not None
        self._fences[memory] = target.card.begin_write(target.handle)

    def op_end_write(self, memory: str) -> None:
        """Signal it."""
        target = self._memories[memory]
        assert target.card is not None
        target.card.end_write(self._fences.pop(memory))

    def close(self) -> None:
        """Close the connection and all memory, where the process lives on."""
        self.wire.close()
        for name in list(self._memories):
            self.op_free(name)
        self._exporters.close()

    # ---- buffers

    def op_import(
        self,
        buffer: str,
        planes: list[dict[str, Any]],
        width: int,
        height: int,
        drm_format: str = "XR24",
        *,
        immediate: bool = False,
        version: int = 4,
        flags: int = 0,
        wait: bool = True,
    ) -> str:
        """Make a buffer of dma-bufs; returns "created", "failed" or "" (nothing, yet).

        Args:
            buffer: its name.
            planes: of each the `memory`, and what differs: its `offset` (0), `stride`
                (the exporter's), `index` (its place), `modifier` (LINEAR); instead
                of a memory a `kind` of fd that is none.
            width: pixels.
            height: pixels.
            drm_format: its four characters.
            immediate: `create_immed` rather than `create`.
            version: of linux-dmabuf.
            flags: of the buffer.
            wait: for the answer; for `create_immed`, for the compositor having seen it.
        """
        bound = self._dmabuf(version)
        made = Import(0)

        def on_answer(opcode: int, data: bytes) -> None:
            made.outcome = "failed" if opcode else "created"
            if opcode == 0:
                (made.buffer_id,) = struct.unpack("=I", data)
                self._adopt(buffer, made.buffer_id, planes, width, height)

        made.object_id = self.wire.new(on_answer)
        self.wire.send(bound, 1, "u", made.object_id)
        for index, plane in enumerate(planes):
            self._add(made.object_id, index, plane)
        self._imports[buffer] = made
        geometry = (width, height, fourcc(drm_format), flags)
        if immediate:
            made.buffer_id = self.wire.new()
            self._adopt(buffer, made.buffer_id, planes, width, height)
            self.wire.send(made.object_id, 3, "uiiuu", made.buffer_id, *geometry)
            if wait:
                self.wire.roundtrip(ANSWER)
        else:
            self.wire.send(made.object_id, 2, "iiuu", *geometry)
            if wait:
                self.wire.wait(lambda: made.outcome, ANSWER)
        return made.outcome

    def op_outcome(self, buffer: str, *, wait: bool = False) -> str:
        """Say what has become of an import."""
        made = self._imports[buffer]
        if wait:
            self.wire.wait(lambda: made.outcome, ANSWER)
        return made.outcome

    def op_destroy_params(self, buffer: str) -> None:
        """Destroy what a buffer was made with."""
        self.wire.send(self._imports.pop(buffer).object_id, 0)

    def op_fill(self, memory: str, seed: int) -> None:
        """Fill a dma-buf with bytes that follow from the seed alone."""
        target = self._memories[memory]
        target.memory[:] = pattern.filling(target.size, seed)

    def op_render(self, memory: str, frame: int) -> None:
        """Have Mesa draw a frame of the pattern into a texture."""
        texture = self._textures[memory]
        texture.upload(pattern.image(texture.width, texture.height, frame))

    # ---- the rest

    def _export_texture(self, memory: str, width: int, height: int) -> Allocation:
        if self._mesa is None:
            self._mesa = Llvmpipe()
        texture = self._textures[memory] = Texture(self._mesa, width, height)
        made = texture.export()
        assert (made.modifier, made.offset) == (LINEAR, 0)
        size = os.lseek(made.fd, 0, os.SEEK_END)
        return Allocation(made.fd, made.stride, size, mmap.mmap(made.fd, size))

    def _dmabuf(self, version: int) -> int:
        if version not in self._globals:
            _, offered = self.wire.globals["zwp_linux_dmabuf_v1"]
            if offered < version:
                raise ValueError(f"linux-dmabuf is offered in version {offered} only")
            self._told.clear()
            bound = self.wire.bind("zwp_linux_dmabuf_v1", version, self._on_dmabuf)
            self._globals[version] = bound
        return self._globals[version]

    def _on_dmabuf(self, opcode: int, data: bytes) -> None:
        if opcode == 1:
            drm_format, high, low = struct.unpack("=III", data)
            self._told.append((drm_format, high << 32 | low))

    def _add(self, params: int, index: int, plane: dict[str, Any]) -> None:
        memory = self._memories.get(plane.get("memory", ""))
        if memory is not None:
            fd, pitch = memory.fd, memory.pitch
        else:
            fd, pitch = self._open_fd(plane["kind"]), plane["stride"]
        modifier = plane.get("modifier", LINEAR)
        where = (plane.get("offset", 0), plane.get("stride") or pitch)
        numbers = (plane.get("index", index), *where, modifier >> 32, modifier % 2**32)
        try:
            self.wire.send(params, 1, "uuuuu", *numbers, fds=[fd])
        finally:
            if memory is None:
                os.close(fd)

    def _adopt(
        self,
        name: str,
        object_id: int,
        planes: list[dict[str, Any]],
        width: int,
        height: int,
    ) -> None:
        """Enter a buffer, for it to be drawn into and shown."""
        memory = self._memories.get(planes[0].get("memory", ""))
        if memory is None:
            return
        pool = Pool(0, memory.fd, memory.size, memory.memory)
        offset = planes[0].get("offset", 0)
        stride = planes[0].get("stride") or memory.pitch
        made = Buffer(object_id, pool, offset, width, height, stride)

        def on_release(_opcode: int, _data: bytes) -> None:
            made.releases += 1

        self.wire.handle(object_id, on_release)
        self._buffers[name] = made


def _array(data: bytes) -> bytes:
    (size,) = struct.unpack_from("=I", data)
    return data[4 : 4 + size]


if __name__ == "__main__":
    serve(0, 1, DmabufClient(sys.argv[1] if len(sys.argv) > 1 else None))
