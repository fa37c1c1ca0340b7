"""Icons: every kind of PNG that icons are, where they are looked for, and what is drawn."""

import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.guest_agent.launcher.desktop import Desktop, picture, write
from wlproxy_guest.launcher import icons
from wlproxy_guest.launcher.icons import find_icon
from wlproxy_guest.launcher.png import SIGNATURE, PngError, read_png

SIDE = 24


def gradient(mode: str, bits: int | None = None) -> tuple[bytes, Image.Image]:
    """A picture that makes an encoder use every filter, and what is in it."""
    image = Image.new("RGBA", (SIDE, SIDE))
    image.putdata(
        [
            (10 * x % 256, 7 * y % 256, x * y % 256, 255 - 9 * ((x + y) % 20))
            for y in range(SIDE)
            for x in range(SIDE)
        ]
    )
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    file = BytesIO()
    if bits is None:
        image.save(file, "png")
    else:
        image.save(file, "png", bits=bits)
    return file.getvalue(), image


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L", "LA", "P", "1"])
def test_every_color(mode: str) -> None:
    data, image = gradient(mode)

    found = read_png(data)

    assert (found.width, found.height) == (SIDE, SIDE)
    assert found.pixels == image.convert("RGBA").tobytes()


def test_palettes_of_few_bits() -> None:
    data, image = gradient("P", bits=4)

    assert read_png(data).pixels == image.convert("RGBA").tobytes()


def test_sixteen_bits() -> None:
    image = Image.new("I;16", (2, 1))
    image.putdata([0x1234, 0xFEDC])
    file = BytesIO()
    image.save(file, "png")

    assert read_png(file.getvalue()).pixels == b"\x12\x12\x12\xff\xfe\xfe\xfe\xff"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + bytes(4)


def png(header: bytes, rows: bytes, *others: bytes) -> bytes:
    return b"".join(
        [
            SIGNATURE,
            chunk(b"IHDR", header),
            *others,
            chunk(b"IDAT", zlib.compress(rows)),
        ]
    )


def header(
    width: int, height: int, depth: int = 8, color: int = 6, *rest: int
) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, color, *(rest or (0, 0, 0)))


@pytest.mark.parametrize("filtered", [0, 1, 2, 3, 4])
def test_every_filter(filtered: int) -> None:
    """None, sub, up, average, and the last: a row of zeros is what each predicts."""
    first = b"\0" + bytes(range(8))
    found = read_png(png(header(2, 2), first + bytes([filtered]) + bytes(8))).pixels
    expected = {
        0: bytes(8),
        1: bytes(8),
        2: bytes(range(8)),
        3: bytes([0, 0, 1, 1, 2, 2, 3, 4]),
        4: bytes(range(8)),
    }
    assert found == bytes(range(8)) + expected[filtered]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        SIGNATURE,
        SIGNATURE + chunk(b"IHDR", b"short"),
        png(header(0, 1), b""),
        png(header(1025, 1), b""),
        png(header(1, 1, 8, 5), bytes(5)),
        png(header(1, 1, 4, 6), bytes(5)),
        png(header(1, 1, 8, 6, 0, 0, 1), bytes(5)),
        png(header(1, 1), b"\5" + bytes(4)),
        png(header(1, 1), bytes(4)),
        png(header(1, 1, 8, 3), b"\0\1", chunk(b"PLTE", b"abc")),
        SIGNATURE + chunk(b"IHDR", header(1, 1)) + chunk(b"IDAT", b"no zlib"),
    ],
    ids=range(13),
)
def test_what_cannot_be_read(data: bytes) -> None:
    with pytest.raises(PngError):
        read_png(data)


def test_a_bomb_is_not_blown_up() -> None:
    data = png(header(1, 1), bytes(100 << 20))

    assert len(read_png(data).pixels) == 4


@given(st.data())
def test_damaged_files_are_read_or_not(data: st.DataObject) -> None:
    whole = bytearray(picture(16, "red", data.draw(st.sampled_from(["RGBA", "P"]))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(8, len(whole) - 1))] = data.draw(
            st.integers(0, 255)
        )
    try:
        found = read_png(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except PngError:
        return
    assert len(found.pixels) == 4 * found.width * found.height


# ------------------------------------------------------------------ where they are


def side(desktop: Desktop, name: str = "app") -> int:
    found = find_icon(name, desktop.environ)
    return found.width if found else 0


def test_the_best_size_is_taken(desktop: Desktop) -> None:
    for each in (32, 48, 256):
        desktop.icon(f"icons/hicolor/{each}x{each}/apps/app.png", each)
    assert side(desktop) == 256
    desktop.icon("icons/hicolor/128x128/apps/app.png", 128)
    assert side(desktop) == 128


def test_other_themes_and_pixmaps(desktop: Desktop) -> None:
    desktop.icon("pixmaps/app.png", 20)
    assert side(desktop) == 20
    desktop.icon("icons/breeze/apps/48/app.png", 48)
    assert side(desktop) == 48
    desktop.icon("icons/hicolor/32x32/apps/app.png", 32)
    assert side(desktop) == 32


def test_a_path(desktop: Desktop) -> None:
    path = desktop.icon("somewhere/app.png", 40)

    assert side(desktop, str(path)) == 40
    assert side(desktop, "/nowhere/app.png") == 0


@pytest.mark.parametrize("name", ["", "../app", ".app", "no-such-app"])
def test_names_that_are_none(desktop: Desktop, name: str) -> None:
    desktop.icon("icons/hicolor/48x48/apps/app.png")
    assert side(desktop, name) == 0


def test_a_bad_one_is_passed_over(
    desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(icons, "MAX_FILE", 4000)
    desktop.icon("icons/hicolor/128x128/apps/app.png", 300)
    write(desktop.system / "icons/hicolor/96x96/apps/app.png", b"no PNG")
    write(desktop.system / "icons/hicolor/72x72/apps/app.png", bytes(4001))
    desktop.icon("icons/hicolor/48x48/apps/app.png", 48)

    assert side(desktop) == 48


def drawer(desktop: Desktop, script: str) -> None:
    path = write(desktop.bin / "rsvg-convert", f"#!/bin/sh\n{script}\n".encode())
    path.chmod(0o755)


def test_an_svg_is_drawn(desktop: Desktop) -> None:
    write(desktop.system / "icons/hicolor/scalable/apps/app.svg", b"<svg/>")
    made = write(desktop.bin / "made.png", picture(128, "blue"))
    drawer(desktop, f'[ "$2" = 128 ] && exec cat {made}')

    found = find_icon("app", desktop.environ)

    assert found is not None
    assert found.pixels == b"\0\0\xff\xff" * 128 * 128


@pytest.mark.parametrize("script", ["exit 1", "echo nonsense", "exec sleep 1000"])
def test_an_svg_that_cannot_be_drawn(
    desktop: Desktop, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(icons, "DRAW_SECONDS", 0.3)
    write(desktop.system / "icons/hicolor/scalable/apps/app.svg", b"<svg/>")
    drawer(desktop, script)

    assert side(desktop) == 0


def test_nobody_can_draw(desktop: Desktop) -> None:
    write(desktop.system / "icons/hicolor/scalable/apps/app.svg", b"<svg/>")

    environ = dict(desktop.environ) | {"PATH": str(desktop.bin)}
    assert find_icon("app", environ) is None
