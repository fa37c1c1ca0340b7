"""Mesa's software renderer as a maker of dma-bufs: what it draws, and where that is.

EGL without a window or a device, OpenGL ES on llvmpipe; a texture of it is exported by
EGL_MESA_image_dma_buf_export, for which Mesa takes memory of /dev/udmabuf.  As a
program: draws, exports, draws again, and writes what the dma-buf has each time into a
file.  No library but Mesa's own: it runs in the guest as well.
"""

import ctypes
import json
import mmap
import os
import sys
from ctypes import CDLL, CFUNCTYPE, POINTER, byref, c_int, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path

from tests.clients import pattern

EGL_NONE = 0x3038
EGL_EXTENSIONS = 0x3055
EGL_CONTEXT_MAJOR_VERSION = 0x3098
EGL_OPENGL_ES_API = 0x30A0
EGL_GL_TEXTURE_2D = 0x30B1
EGL_IMAGE_PRESERVED = 0x30D2
EGL_PLATFORM_SURFACELESS_MESA = 0x31DD

GL_TEXTURE_2D = 0x0DE1
GL_UNSIGNED_BYTE = 0x1401
GL_RENDERER = 0x1F01
GL_NEAREST = 0x2600
GL_MAG_FILTER, GL_MIN_FILTER = 0x2800, 0x2801
GL_SCISSOR_TEST = 0x0C11
GL_COLOR_BUFFER_BIT = 0x4000
GL_BGRA = 0x80E1
GL_FRAMEBUFFER = 0x8D40
GL_COLOR_ATTACHMENT0 = 0x8CE0
GL_FRAMEBUFFER_COMPLETE = 0x8CD5

EXTENSION = "EGL_MESA_image_dma_buf_export"
SIZE = 333, 251
BOX = 40, 30, 200, 100
"""x, y, width, height: what is drawn over a frame."""
RED = b"\x00\x00\xff\xff"


class EglError(Exception):
    """Mesa could not, or would not."""


def _pointers(library: CDLL, *names: str) -> None:
    """Have functions return pointers, which are no ints."""
    for name in names:
        getattr(library, name).restype = c_void_p


class Llvmpipe:
    """A context of OpenGL ES 2 on llvmpipe, and no surface."""

    def __init__(self) -> None:
        os.environ["LIBGL_ALWAYS_SOFTWARE"] = "true"
        self.egl = CDLL("libEGL.so.1")
        self.gl = CDLL("libGLESv2.so.2")
        _pointers(
            self.egl,
            *("eglGetPlatformDisplay", "eglCreateContext", "eglCreateImage"),
            "eglGetProcAddress",
        )
        self.egl.eglQueryString.restype = self.gl.glGetString.restype = ctypes.c_char_p
        self.display = c_void_p(
            self.egl.eglGetPlatformDisplay(EGL_PLATFORM_SURFACELESS_MESA, None, None)
        )
        check(self.egl.eglInitialize(self.display, None, None), "eglInitialize")
        told = self.egl.eglQueryString(self.display, EGL_EXTENSIONS)
        self.extensions = set((told or b"").decode().split())
        check(self.egl.eglBindAPI(EGL_OPENGL_ES_API), "eglBindAPI")
        wanted = (c_int * 3)(EGL_CONTEXT_MAJOR_VERSION, 2, EGL_NONE)
        self.context = c_void_p(
            self.egl.eglCreateContext(self.display, None, None, wanted)
        )
        check(self.context.value, "eglCreateContext")
        self._current = (self.display, None, None, self.context)
        check(self.egl.eglMakeCurrent(*self._current), "eglMakeCurrent")
        self.renderer = (self.gl.glGetString(GL_RENDERER) or b"").decode()

    def call(self, name: str, *types: type) -> "ctypes._FuncPointer":
        """Look up a function of an extension.

        Raises:
            EglError: there is none.
        """
        address = self.egl.eglGetProcAddress(name.encode())
        check(address, name)
        function: ctypes._FuncPointer = CFUNCTYPE(c_uint, *types)(address)
        return function


@dataclass(frozen=True, slots=True)
class Exported:
    """A texture as a dma-buf.

    Attributes:
        fd: the dma-buf.
        fourcc: its DRM format.
        modifier: its layout.
        stride: bytes from row to row.
        offset: of the first.
    """

    fd: int
    fourcc: int
    modifier: int
    stride: int
    offset: int


class Texture:
    """A texture of 32 bits a pixel: blue, green, red, alpha."""

    def __init__(self, owner: Llvmpipe, width: int, height: int) -> None:
        self._owner, self._gl = owner, owner.gl
        self.width, self.height = width, height
        name = c_uint()
        self._gl.glGenTextures(1, byref(name))
        self._gl.glBindTexture(GL_TEXTURE_2D, name)
        for parameter in (GL_MIN_FILTER, GL_MAG_FILTER):
            self._gl.glTexParameteri(GL_TEXTURE_2D, parameter, GL_NEAREST)
        size = (width, height)
        layout = (GL_BGRA, GL_UNSIGNED_BYTE)
        self._gl.glTexImage2D(GL_TEXTURE_2D, 0, GL_BGRA, *size, 0, *layout, None)
        self.name = name

    def upload(self, pixels: bytes) -> None:
        """Replace all of it."""
        self._gl.glBindTexture(GL_TEXTURE_2D, self.name)
        area = (0, 0, self.width, self.height)
        layout = (GL_BGRA, GL_UNSIGNED_BYTE)
        self._gl.glTexSubImage2D(GL_TEXTURE_2D, 0, *area, *layout, pixels)
        self._gl.glFinish()

    def draw_red(self, x: int, y: int, width: int, height: int) -> None:
        """Draw a rectangle into it: it is rendered to, not uploaded.

        Raises:
            EglError: it cannot be rendered to.
        """
        frame = c_uint()
        self._gl.glGenFramebuffers(1, byref(frame))
        self._gl.glBindFramebuffer(GL_FRAMEBUFFER, frame)
        target = (GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, self.name, 0)
        self._gl.glFramebufferTexture2D(GL_FRAMEBUFFER, *target)
        status = self._gl.glCheckFramebufferStatus(GL_FRAMEBUFFER)
        check(status == GL_FRAMEBUFFER_COMPLETE, f"framebuffer: {status:#x}")
        self._gl.glEnable(GL_SCISSOR_TEST)
        self._gl.glScissor(x, y, width, height)
        self._gl.glClearColor(*map(ctypes.c_float, (1, 0, 0, 1)))
        self._gl.glClear(GL_COLOR_BUFFER_BIT)
        self._gl.glFinish()
        self._gl.glBindFramebuffer(GL_FRAMEBUFFER, 0)
        self._gl.glDeleteFramebuffers(1, byref(frame))

    def export(self) -> Exported:
        """Make a dma-buf of it; what is drawn from now on is drawn there.

        Raises:
            EglError: Mesa does not.
        """
        owner, display = self._owner, self._owner.display
        check(EXTENSION in owner.extensions, f"no {EXTENSION}: is there /dev/udmabuf?")
        wanted = (ctypes.c_ssize_t * 3)(EGL_IMAGE_PRESERVED, 1, EGL_NONE)
        source = (EGL_GL_TEXTURE_2D, c_void_p(self.name.value), wanted)
        image = c_void_p(owner.egl.eglCreateImage(display, owner.context, *source))
        check(image.value, "eglCreateImage")
        ints = POINTER(c_int)
        handles = (c_void_p, c_void_p)
        query = owner.call(
            "eglExportDMABUFImageQueryMESA", *handles, ints, ints, POINTER(c_uint64)
        )
        fourcc, planes, modifier = c_int(), c_int(), c_uint64()
        told = (byref(fourcc), byref(planes), byref(modifier))
        check(query(display, image, *told), "eglExportDMABUFImageQueryMESA")
        check(planes.value == 1, f"{planes.value} planes")
        export = owner.call("eglExportDMABUFImageMESA", *handles, ints, ints, ints)
        fd, stride, offset = c_int(-1), c_int(), c_int()
        made = (byref(fd), byref(stride), byref(offset))
        check(export(display, image, *made), "eglExportDMABUFImageMESA")
        check(fd.value >= 0, "no fd")
        place = (stride.value, offset.value)
        return Exported(fd.value, fourcc.value, modifier.value, *place)


def check(done: object, what: str) -> None:
    """Have it be true.

    Raises:
        EglError: it is not.
    """
    if not done:
        raise EglError(what)


def read(exported: Exported, width: int, height: int) -> bytes:
    """Read the pixels of a dma-buf, row after row."""
    size = os.lseek(exported.fd, 0, os.SEEK_END)
    with mmap.mmap(exported.fd, size, prot=mmap.PROT_READ) as memory:
        starts = [exported.offset + y * exported.stride for y in range(height)]
        return b"".join(memory[each : each + width * 4] for each in starts)


def main(path: Path) -> None:
    """Draw, export, and draw again."""
    llvmpipe = Llvmpipe()
    texture = Texture(llvmpipe, *SIZE)
    texture.upload(pattern.image(*SIZE, 1))
    exported = texture.export()
    frames = [read(exported, *SIZE)]
    texture.upload(pattern.image(*SIZE, 2))
    texture.draw_red(*BOX)
    frames.append(read(exported, *SIZE))
    path.write_bytes(b"".join(frames))
    facts = {
        "renderer": llvmpipe.renderer,
        "format": exported.fourcc.to_bytes(4, "little").decode(),
        "modifier": exported.modifier,
        "is": os.readlink(f"/proc/self/fd/{exported.fd}"),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
