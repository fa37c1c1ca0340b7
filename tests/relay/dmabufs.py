"""A stage whose guest has dma-bufs, and an app that knows how to make buffers of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.relay.playbook import ZERO_COPY, Stage
from tests.relay.shell import PAGE
from tests.relay.things import Thing, integer
from wlproxy.protocol.channel.frames import Attachment, AttachmentFlags
from wlproxy.relay.capabilities import CompositorCapabilities, Preference
from wlproxy.relay.formats import DRM_ARGB8888, DRM_XRGB8888, LAYOUTS, fourcc
from wlproxy.relay.handles import Handle
from wlproxy.relay.look import WindowFrame
from wlproxy.relay.wire.context import RelayConfig

DEVICE = 0xE280
"""226:128, as `stat` says of /dev/dri/renderD128."""

NV12 = fourcc("NV12")
VIDEO = replace(
    ZERO_COPY,
    dmabuf_stride_alignment={DRM_ARGB8888: 64, DRM_XRGB8888: 64, NV12: 64},
)
"""A compositor that imports colours and video."""

INVALID = (1 << 56) - 1
"""DRM_FORMAT_MOD_INVALID."""

XRGB = DRM_XRGB8888


@dataclass(frozen=True, slots=True)
class Part:
    """A plane as an app says it: the fd, where it starts, and its stride."""

    attachment: Attachment
    offset: int
    stride: int


class DmabufStage(Stage):
    """A stage with linux-dmabuf bound."""

    def __init__(
        self,
        capabilities: CompositorCapabilities = VIDEO,
        preference: Preference = Preference.AUTO,
        version: int = 5,
        *,
        implicit: bool = False,
        frame: WindowFrame | None = None,
    ) -> None:
        """`implicit`: the agent says that its dma-bufs without a modifier are linear."""
        config = RelayConfig(
            policy=self.policy,
            preference=preference,
            main_device=DEVICE,
            implicit_linear=implicit,
            reads_files=True,
            frame=frame,
        )
        super().__init__(capabilities, config)
        self.dmabuf = self.app.bind("zwp_linux_dmabuf_v1", version)
        self.said()

    def export(self, size: int) -> Attachment:
        """Have the app pass a new dma-buf."""
        return replace(self.memory(size), flags=AttachmentFlags.MEMORY_DMABUF)

    def again(self, attachment: Attachment) -> Attachment:
        """Have the app pass another fd of the same dma-buf."""
        another = self.export(0)
        self.shell.files[another.object_id] = self.shell.files[attachment.object_id]
        return replace(another, size=attachment.size)

    def params(self, parts: Sequence[Part], modifier: int = 0) -> Thing:
        params = self.app.request(self.dmabuf, "create_params")
        for index, part in enumerate(parts):
            self.add(params, index, part, modifier)
        return params

    def add(self, params: Thing, index: int, part: Part, modifier: int = 0) -> None:
        self.app.request(
            params,
            "add",
            *(index, part.offset, part.stride),
            *(modifier >> 32, modifier & 0xFFFFFFFF),
            attach=[part.attachment],
        )

    def parts(self, size: tuple[int, int] = (64, 64), fmt: int = XRGB) -> list[Part]:
        """All planes in one dma-buf, one after the other, an fd for each."""
        parts: list[Part] = []
        width, height = size
        end = 256
        layout = [
            (-(-each.row_bytes(width) // 64) * 64, each.row_count(height))
            for each in LAYOUTS[fmt]
        ]
        total = end + sum(stride * rows for stride, rows in layout) + 100
        first = self.export(total)
        for stride, rows in layout:
            attachment = self.again(first) if parts else first
            parts.append(Part(attachment, end, stride))
            end += stride * rows
        return parts

    def immed(
        self,
        size: tuple[int, int] = (64, 64),
        fmt: int = XRGB,
        flags: int = 0,
        parts: Sequence[Part] = (),
        modifier: int = 0,
    ) -> Thing:
        """A buffer of `create_immed`; its params are gone."""
        parts = parts or self.parts(size, fmt)
        params = self.params(parts, modifier)
        buffer = self.app.request(params, "create_immed", *size, fmt, flags)
        self.app.request(params, "destroy")
        return self.known(buffer, parts, size, fmt)

    def create(
        self,
        size: tuple[int, int] = (64, 64),
        fmt: int = XRGB,
        flags: int = 0,
        modifier: int = 0,
    ) -> tuple[Thing, list[Part]]:
        """Ask for a buffer; its params come back."""
        parts = self.parts(size, fmt)
        params = self.params(parts, modifier)
        self.app.request(params, "create", *size, fmt, flags)
        return params, parts

    def created(
        self, size: tuple[int, int] = (64, 64), fmt: int = XRGB, modifier: int = 0
    ) -> Thing:
        """A buffer of `create`, answered; its params are gone."""
        params, parts = self.create(size, fmt, modifier=modifier)
        buffer = self.app.created.pop()
        self.app.request(params, "destroy")
        return self.known(buffer, parts, size, fmt)

    def known(
        self, buffer: Thing, parts: Sequence[Part], size: tuple[int, int], fmt: int
    ) -> Thing:
        """Note where a buffer's bytes are."""
        buffer.facts["parts"] = [
            (part.attachment.object_id, part.offset, part.stride * rows)
            for part, rows in zip(
                parts,
                (each.row_count(size[1]) for each in LAYOUTS[fmt]),
                strict=True,
            )
        ]
        return buffer

    def fill(self, buffer: Thing, seed: int) -> None:
        """Draw: no two planes alike."""
        for index, (memory, offset, length) in enumerate(app_parts(buffer)):
            byte = (seed * 16 + index) & 0xFF
            self.shell.write(memory, offset, bytes([byte]) * (length - 1) + b"e")

    def app_planes(self, buffer: Thing) -> list[bytes]:
        """What the app drew."""
        return [self.shell.read(*part) for part in app_parts(buffer)]

    def host_planes(self, buffer: Thing) -> list[bytes]:
        """What the compositor sees of it, now."""
        shown = self.host_thing("wl_surface").facts["current"]
        assert isinstance(shown, Thing)
        lengths = [length for _, _, length in app_parts(buffer)]
        planes = shown.facts.get("planes")
        if planes is None:
            geometry = shown.facts["geometry"]
            assert isinstance(geometry, tuple)
            planes = [(shown.facts["fd"], geometry[0], geometry[3])]
        assert isinstance(planes, list)
        return [
            self.shell.contents(Handle(integer(fd)))[offset : offset + length]
            for (fd, offset, _stride), length in zip(planes, lengths, strict=True)
        ]

    def show_right(self, *buffers: Thing) -> None:
        """Show buffers, and see that the compositor sees what was drawn."""
        for seed, buffer in enumerate(buffers, 1):
            self.fill(buffer, seed)
            self.show(self.surface, buffer)
            assert self.app.error is None
            assert self.host_planes(buffer) == self.app_planes(buffer)

    def end(self, *buffers: Thing) -> None:
        """Destroy everything, and see that nothing is left."""
        for thing in (*buffers, self.surface, self.dmabuf):
            self.app.request(thing, "destroy")
        assert self.app.error is None
        self.nothing_left()
        kinds = {thing.interface.name for thing in self.host.things.values()}
        assert not kinds & {"wl_buffer", "wl_shm_pool", "zwp_linux_buffer_params_v1"}
        left = self.relay.holdings()
        assert not any(left.used.values())
        assert not left.clients[1].creating
        assert not left.clients[1].buffers
        assert not left.clients[1].handles


def app_parts(buffer: Thing) -> list[tuple[int, int, int]]:
    """(memory, offset, length) of each plane."""
    parts = buffer.facts["parts"]
    assert isinstance(parts, list)
    return parts


def pages(size: int) -> int:
    return -(-size // PAGE)
