"""What the host believes of a guest's apps, and what it writes for this desktop."""

import base64
import json
import os
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.strategies import chunked, plain_values
from wlproxy.host.errors import HostError
from wlproxy.host.launch import apps as apps_module
from wlproxy.host.launch.apps import App, AppList, Icon, read_app
from wlproxy.host.launch.export import (
    Changes,
    data_home,
    export_apps,
    png,
    remove_apps,
)
from wlproxy.protocol.errors import ChannelError
from wlproxy_guest.launcher.entries import read_entry

START = ["/opt/my $HOME/wlproxy", "exec", "vm", "--app"]
PIXELS = bytes(range(256)) * 4
ICON = Icon(16, PIXELS)
HEBREW = "\u05e9\u05dc"
FOOT = App("foot", "Foot", "A terminal", ("System",), "", ICON)


def line(**fields: object) -> bytes:
    return json.dumps({"id": "foot", "name": "Foot"} | fields).encode() + b"\n"


def read_one(**fields: object) -> App | None:
    return read_app({"id": "foot", "name": "Foot"} | fields)


# ------------------------------------------------------------------ what is believed


def test_an_app_is_read() -> None:
    assert (
        read_one(
            comment="A terminal",
            categories=["System"],
            size=16,
            pixels=base64.b64encode(PIXELS).decode(),
        )
        == FOOT
    )


@pytest.mark.parametrize(
    "identity",
    [
        *("", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "a\n", "ä", "x" * 129),
        *(5, None, ["foot"], "a;b", "a%b", 'a"b', "a\\b"),
    ],
)
def test_ids_that_could_be_something_else(identity: object) -> None:
    assert read_one(id=identity) is None


@pytest.mark.parametrize("name", ["", " \n", "\u202e\u200b", 5, None, ["x"]])
def test_names_that_are_none(name: object) -> None:
    assert read_one(name=name) is None


def test_names_are_one_line_of_what_can_be_seen() -> None:
    app = read_one(name="\x1b[1mBig\n\u202eapp" + "x" * 999, comment="a\nExec=evil")

    assert app is not None
    assert app.name.startswith("[1mBig app")
    assert len(app.name) == 80
    assert app.comment == "a Exec=evil"


@pytest.mark.parametrize(
    ("window", "taken"),
    [
        ("Foot", "Foot"),
        ("foot", ""),
        ("a\nExec=x", ""),
        ("a/b", ""),
        (5, ""),
        (None, ""),
    ],
)
def test_app_ids_of_windows(window: object, taken: str) -> None:
    app = read_one(window=window)
    assert app is not None
    assert app.window == taken


def test_categories_are_words() -> None:
    app = read_one(categories=["System", "X-A", "a;b", "a\n", 5, "x" * 41, *"abc" * 30])
    assert app is not None
    assert app.categories[:3] == ("System", "X-A", "a")
    assert len(app.categories) == 16
    assert read_one(categories="System") == App("foot", "Foot")


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        (16, "!"),
        (16, base64.b64encode(PIXELS[1:]).decode()),
        (16, 5),
        (16, "é"),
        (15, base64.b64encode(bytes(900)).decode()),
        (257, base64.b64encode(bytes(4 * 257 * 257)).decode()),
        (True, ""),
        ("16", base64.b64encode(PIXELS).decode()),
        (None, None),
    ],
    ids=range(9),
)
def test_icons_that_are_none(size: object, pixels: object) -> None:
    assert read_one(size=size, pixels=pixels) == App("foot", "Foot")


@given(
    st.dictionaries(st.sampled_from([*App.__slots__, "size", "pixels"]), plain_values)
)
def test_any_object_is_an_app_or_none(fields: dict[str, object]) -> None:
    app = read_app(fields)
    assert app is None or app.name.isprintable()


@given(st.data())
def test_a_list_comes_in_any_pieces(data: st.DataObject) -> None:
    found = AppList()
    sent = line() + line(id="bar") + line(id="foot", name="Again") + line(id="/")
    for piece in data.draw(chunked(sent)):
        found.feed(piece)

    assert [each.name for each in found.apps.values()] == ["Foot", "Foot"]
    assert found.left_out == 1


@pytest.mark.parametrize("sent", [b"nonsense\n", b"x" * (512 * 1024), b"[]\n"])
def test_lists_that_are_none(sent: bytes) -> None:
    with pytest.raises(ChannelError):
        AppList().feed(sent)


def test_a_list_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps_module, "MAX_APPS", 3)
    found = AppList()
    with pytest.raises(ChannelError, match="no end"):
        found.feed(b"".join(line(id=f"a{number}") for number in range(4)))


def test_icons_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps_module, "MAX_PIXELS", len(PIXELS))
    found = AppList()
    icon = {"size": 16, "pixels": base64.b64encode(PIXELS).decode()}
    with pytest.raises(ChannelError, match="no end"):
        found.feed(line(**icon) + line(**icon))


# ------------------------------------------------------------------ what is written


def files(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def test_an_entry_is_named_as_the_windows_are(tmp_path: Path) -> None:
    assert export_apps(tmp_path, "vm", [FOOT], START) == Changes(written=1)

    assert files(tmp_path) == {
        "applications/wlproxy.vm.foot.desktop",
        "icons/hicolor/16x16/apps/wlproxy.vm.foot.png",
    }
    text = (tmp_path / "applications/wlproxy.vm.foot.desktop").read_text()
    assert text == (
        "[Desktop Entry]\n"
        "Type=Application\n"
        "Version=1.5\n"
        "Name=Foot (vm)\n"
        "Comment=A terminal\n"
        'Exec="/opt/my \\\\$HOME/wlproxy" "exec" "vm" "--app" "foot"\n'
        "Icon=wlproxy.vm.foot\n"
        "Categories=System;\n"
        "StartupWMClass=wlproxy.vm.foot\n"
        "X-wlproxy-VM=vm\n"
    )


def test_what_is_started_is_what_was_meant(tmp_path: Path) -> None:
    """As a menu reads it: escapes of strings, then those of quotes, then %%."""
    start = ["a b", 'q"q', "b\\s", "d$d", "`", "50%"]
    export_apps(tmp_path, "vm", [App("x", "X")], start)

    entry = read_entry("x", tmp_path / "applications/wlproxy.vm.x.desktop")
    assert entry.argv() == [*start, "x"]


def test_a_window_of_another_name(tmp_path: Path) -> None:
    export_apps(tmp_path, "vm", [App("firefox-esr", "F", window="firefox")], START)

    text = (tmp_path / "applications/wlproxy.vm.firefox-esr.desktop").read_text()
    assert "StartupWMClass=wlproxy.vm.firefox\n" in text
    assert "Icon=application-x-executable\n" in text


def test_names_cannot_move_the_vms(tmp_path: Path) -> None:
    export_apps(tmp_path, "vm", [App("x", f"{HEBREW}\\n", "b\\c")], START)

    text = (tmp_path / "applications/wlproxy.vm.x.desktop").read_text()
    assert f"Name=\u2068{HEBREW}\\\\n\u2069 (vm)\n" in text
    assert "Comment=b\\\\c\n" in text


def test_again_nothing_is_written(tmp_path: Path) -> None:
    export_apps(tmp_path, "vm", [FOOT], START)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    assert export_apps(tmp_path, "vm", [FOOT], START) == Changes(kept=1)

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_has_gone_goes(tmp_path: Path) -> None:
    export_apps(tmp_path, "vm", [FOOT, App("bar", "Bar", icon=ICON)], START)

    larger = App("foot", "Foot", icon=Icon(50, bytes(4 * 50 * 50)))
    assert export_apps(tmp_path, "vm", [larger], START) == Changes(written=1, removed=1)
    assert files(tmp_path) == {
        "applications/wlproxy.vm.foot.desktop",
        "icons/hicolor/48x48/apps/wlproxy.vm.foot.png",
    }


def test_others_stay(tmp_path: Path) -> None:
    """Another VM's, whose name begins alike; and one that the user has written."""
    export_apps(tmp_path, "vm", [FOOT], START)
    export_apps(tmp_path, "vm2", [FOOT], START)
    own = tmp_path / "applications/wlproxy.vm.own.desktop"
    own.write_text("[Desktop Entry]\nName=mine\n")

    assert remove_apps(tmp_path, "vm") == Changes(removed=1)

    assert files(tmp_path) == {
        "applications/wlproxy.vm.own.desktop",
        "applications/wlproxy.vm2.foot.desktop",
        "icons/hicolor/16x16/apps/wlproxy.vm2.foot.png",
    }
    assert remove_apps(tmp_path, "vm") == Changes()


def test_names_that_are_no_vms_remove_nothing(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot name a VM"):
        remove_apps(tmp_path, "*")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "applications").write_text("")
    with pytest.raises(HostError, match="cannot write the desktop entries"):
        export_apps(tmp_path, "vm", [App("x", "X")], START)


def test_pngs_are_what_was_said() -> None:
    image = Image.open(BytesIO(png(ICON)))

    assert (image.size, image.mode) == ((16, 16), "RGBA")
    assert image.tobytes() == PIXELS


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        ({"XDG_DATA_HOME": "/d", "HOME": "/h"}, "/d"),
        ({"XDG_DATA_HOME": "d", "HOME": "/h"}, "/h/.local/share"),
    ],
)
def test_where_it_goes(environ: dict[str, str], home: str) -> None:
    assert os.fspath(data_home(environ)) == home


def test_without_a_home() -> None:
    with pytest.raises(HostError, match="HOME"):
        data_home({})
