"""GNOME Shell (Mutter) and KWin of Debian 13, without a screen, as the desks of `tests.pictures`.

GNOME Shell is told what to do in JavaScript, and makes pictures itself.  KWin makes none without a
GPU: it is a window, which fills the screen, of a sway in the same Debian, of which pictures are made,
and whose virtual pointer is KWin's.
"""

import json
import subprocess
import time
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from jeepney import DBusAddress, MessageType, new_method_call
from jeepney.io.blocking import open_dbus_connection
from PIL import Image

from tests import compositors
from tests.clients import capture
from tests.clients.virtual_pointer import VirtualPointer
from tests.integration.loopback.test_frames import Box
from tests.pictures import RIGHT, SIZE, Desk

PACKAGES: Final = (
    *("dbus", "fonts-dejavu-core", "gnome-shell", "kwin-style-breeze", "kwin-wayland"),
    *("libgl1-mesa-dri", "mutter", "sway"),
)
PATIENCE: Final = 90.0
"""Seconds for a desktop to be there, on a busy machine."""

ROOT_MAY_CONNECT: Final = (
    '<busconfig><policy context="mandatory"><allow user="root"/></policy></busconfig>'
)
"""To the session's bus: of dbus-daemon's session-local.conf."""

_SCRIPT: Final = """\
export HOME="$XDG_RUNTIME_DIR"
export DBUS_SESSION_BUS_ADDRESS="unix:path=$HOME/bus"
# Who looks for services of the system finds that there are none.
export DBUS_SYSTEM_BUS_ADDRESS="$DBUS_SESSION_BUS_ADDRESS"
cd
dbus-daemon --session --address="$DBUS_SESSION_BUS_ADDRESS" --fork
exec {command}
"""


LEFT_ARROW: Final = 105
LEFT_META: Final = 125
"""As in linux/input-event-codes.h."""


class DebianDesk(Desk):
    """A desktop in the Debian.

    Attributes:
        name: as its picture is called.
        package: that has its version.
        socket: its name.
        command: that runs it.
        files: by their paths in its home.
        ends: apps that it ends, without us as well.
    """

    name: str
    package: str
    socket: str
    command: str
    files: Mapping[str, str]
    ends: Collection[str] = ()

    def __init__(self, runtime: Path) -> None:
        super().__init__(runtime / self.socket)
        self.runtime = runtime
        bus = f"unix:path={runtime / 'bus'}"
        self.waits_for = ""
        self._bus = open_dbus_connection(bus, auth_timeout=PATIENCE)

    def close(self) -> None:
        """Let go of it."""
        self._bus.close()

    @property
    def ready(self) -> bool:
        """Whether it does what it is told."""
        try:
            self.waits_for = "its start to end"
            return self.try_out()
        except RuntimeError as error:
            self.waits_for = str(error)
            return False

    @abstractmethod
    def try_out(self) -> bool:
        """Ask for something harmless; may raise RuntimeError as well."""

    @abstractmethod
    def place(self, box: Box) -> None:
        """Put the newest window, with what surrounds it, somewhere."""

    @abstractmethod
    def tile(self) -> None:
        """Put the newest window into the left half of the screen, or out of it again."""

    @abstractmethod
    def maximise(self) -> None:
        """Have the newest window fill the screen, beside the desktop's own."""

    @abstractmethod
    def fill(self) -> None:
        """Have the newest window fill the screen, with nothing beside it."""

    @abstractmethod
    def point(self, x: int, y: int) -> None:
        """Move the pointer."""

    @abstractmethod
    def press(self, *, down: bool) -> None:
        """Press or let go of the pointer's right button."""

    def call(
        self, address: DBusAddress, method: str, signature: str = "", *body: object
    ) -> tuple[Any, ...]:
        """Call a method over D-Bus.

        Raises:
            RuntimeError: it answers with an error.
        """
        message = new_method_call(address, method, signature, body)
        reply = self._bus.send_and_get_reply(message, timeout=PATIENCE)
        if reply.header.message_type is MessageType.error:
            raise RuntimeError(f"{method}: {reply.body}")
        answer: tuple[Any, ...] = reply.body
        return answer


class Gnome(DebianDesk):
    """GNOME Shell, which is Mutter and its panel."""

    name = "mutter"
    package = "mutter"
    socket = "wayland-0"
    command = (
        "gnome-shell --headless --wayland --no-x11"
        f" --virtual-monitor {SIZE[0]}x{SIZE[1]} --wayland-display wayland-0"
    )
    _extension: Final = ".local/share/gnome-shell/extensions/tests@wlproxy"
    files: Mapping[str, str] = {
        ".config/glib-2.0/settings/keyfile": """\
[org/gnome/desktop/interface]
enable-animations=false
[org/gnome/desktop/background]
picture-options='none'
primary-color='#303840'
[org/gnome/desktop/notifications]
show-banners=false
[org/gnome/shell]
enabled-extensions=['tests@wlproxy']
welcome-dialog-last-shown-version='99'
""",
        f"{_extension}/metadata.json": json.dumps(
            {
                "uuid": "tests@wlproxy",
                "name": "Tests",
                "description": "Have it obey.",
                "shell-version": ["48"],
            }
        ),
        f"{_extension}/extension.js": """\
import * as Main from 'resource:///org/gnome/shell/ui/main.js';
export default class {
  enable() { global.context.unsafe_mode = true; Main.sessionMode.hasOverview = false; }
  disable() {}
}
""",
    }
    _shell: Final = DBusAddress(
        "/org/gnome/Shell", "org.gnome.Shell", "org.gnome.Shell"
    )
    _shots: Final = DBusAddress(
        *("/org/gnome/Shell/Screenshot", "org.gnome.Shell"),
        "org.gnome.Shell.Screenshot",
    )

    def _evaluate(self, javascript: str) -> str:
        done, result = self.call(self._shell, "Eval", "s", javascript)
        if not done:
            raise RuntimeError(result)
        answer: str = result
        return answer

    def try_out(self) -> bool:
        state = "[Main.layoutManager._startingUp, Main.overview.visible]"
        return self._evaluate(state) == "[false,false]"

    def picture(self) -> Image.Image:
        path = self.runtime / "picture.png"
        inside = f"/tmp/{self.runtime.name}/{path.name}"
        self.call(self._shots, "Screenshot", "bbs", False, False, inside)
        with Image.open(path) as image:
            return image.convert("RGB")

    def _to_newest(self, javascript: str) -> None:
        self._evaluate(
            "{ const w = global.get_window_actors().map(a => a.meta_window)"
            ".filter(w => w.window_type == 0)"
            ".sort((a, b) => a.get_stable_sequence() - b.get_stable_sequence()).pop();"
            f"{javascript}; w.activate(global.get_current_time()); }}"
        )

    def place(self, box: Box) -> None:
        left, top, right, bottom = box
        where = f"{left}, {top}, {right - left}, {bottom - top}"
        self._to_newest(f"w.move_resize_frame(true, {where})")

    def tile(self) -> None:
        self._to_newest("")
        for key, state in (
            *((LEFT_META, "PRESSED"), (LEFT_ARROW, "PRESSED")),
            *((LEFT_ARROW, "RELEASED"), (LEFT_META, "RELEASED")),
        ):
            press = f"notify_key(now, {key}, Clutter.KeyState.{state})"
            self._device("KEYBOARD_DEVICE", press)

    def maximise(self) -> None:
        self._to_newest("w.maximize(3)")

    def fill(self) -> None:
        self._to_newest("w.make_fullscreen()")

    def _device(self, kind: str, javascript: str) -> None:
        self._evaluate(
            "{ const {Clutter, GLib} = imports.gi; global.devices ??= {};"
            f"const device = global.devices.{kind}"
            " ??= global.stage.context.get_backend().get_default_seat()"
            f".create_virtual_device(Clutter.InputDeviceType.{kind});"
            f"const now = GLib.get_monotonic_time(); device.{javascript}; }}"
        )

    def point(self, x: int, y: int) -> None:
        self._device("POINTER_DEVICE", f"notify_absolute_motion(now, {x}, {y})")

    def press(self, *, down: bool) -> None:
        state = f"Clutter.ButtonState.{'PRESSED' if down else 'RELEASED'}"
        button = f"notify_button(now, Clutter.BUTTON_SECONDARY, {state})"
        self._device("POINTER_DEVICE", button)


class Kwin(DebianDesk):
    """KWin, with the title bars of Plasma's and nothing else."""

    name = "kwin"
    package = "kwin-wayland"
    socket = "kwin-0"
    command = 'sway --config "$HOME/sway"'
    ends = (
        "foot",
    )  # of Debian 12, which divides by the size of a screen that has none
    files: Mapping[str, str] = {
        "sway": f"""\
output * mode {SIZE[0]}x{SIZE[1]}
for_window [app_id=.*] fullscreen enable
exec kwin_wayland --wayland-display $WAYLAND_DISPLAY --socket kwin-0 --no-lockscreen \
--width {SIZE[0]} --height {SIZE[1]}
""",
        ".config/kdeglobals": "[KDE]\nAnimationDurationFactor=0\n",
    }
    _scripting: Final = DBusAddress(
        "/Scripting", "org.kde.KWin", "org.kde.kwin.Scripting"
    )

    def __init__(self, runtime: Path) -> None:
        super().__init__(runtime)
        (self._screen,) = (
            each for each in runtime.glob("wayland-*") if each.is_socket()
        )
        self._pointer: VirtualPointer | None = None

    def close(self) -> None:
        if self._pointer is not None:
            self._pointer.close()
        super().close()

    def try_out(self) -> bool:
        self.call(self._scripting, "isScriptLoaded", "s", "tests")
        return True

    def picture(self) -> Image.Image:
        shot = capture.grim(str(self._screen), self.runtime)
        return Image.frombytes("RGB", SIZE, shot.data, "raw", "BGRX")

    def _to_newest(self, javascript: str) -> None:
        script = self.runtime / "script.js"
        script.write_text(
            "const w = workspace.windowList().filter(w => w.normalWindow && !w.deleted).pop();\n"
            f"{javascript};\nworkspace.activeWindow = w;\n"
        )
        inside = f"/tmp/{self.runtime.name}/{script.name}"
        self.call(self._scripting, "unloadScript", "s", "tests")
        (number,) = self.call(self._scripting, "loadScript", "ss", inside, "tests")
        path = f"/Scripting/Script{number}"
        address = DBusAddress(path, "org.kde.KWin", "org.kde.kwin.Script")
        self.call(address, "run")

    def place(self, box: Box) -> None:
        left, top, right, bottom = box
        self._to_newest(
            f"w.frameGeometry = {{x: {left}, y: {top},"
            f" width: {right - left}, height: {bottom - top}}}"
        )

    def tile(self) -> None:
        self._to_newest(
            "workspace.activeWindow = w; workspace.slotWindowQuickTileLeft()"
        )

    def maximise(self) -> None:
        self._to_newest("w.setMaximize(true, true)")

    def fill(self) -> None:
        self._to_newest("w.fullScreen = true")

    def _hand(self) -> VirtualPointer:
        if self._pointer is None:
            self._pointer = VirtualPointer(self._screen, SIZE)
        return self._pointer

    def point(self, x: int, y: int) -> None:
        self._hand().go(x, y)

    def press(self, *, down: bool) -> None:
        self._hand().press(down=down, button=RIGHT)


DESKS: Final = (Kwin, Gnome)


def make(root: Path) -> None:
    """Make a Debian with all of them, where there is none yet.

    Raises:
        CannotRunError: this machine cannot, or the mirror does not answer.
    """
    bus = root / "etc/dbus-1/session-local.conf"
    if bus.exists():
        return
    if root.exists():
        raise compositors.CannotRunError(f"{root} is not whole: remove it")
    compositors.make(root, PACKAGES)
    bus.parent.mkdir(exist_ok=True)
    bus.write_text(ROOT_MAY_CONNECT)


@contextmanager
def running(root: Path, kind: type[DebianDesk]) -> Iterator[DebianDesk]:
    """Have a desktop for a while.

    Raises:
        CannotRunError: it does not come up.
    """
    runtime = root / "tmp" / kind.name
    compositors.run("rm", "-rf", runtime)
    for path, text in kind.files.items():
        (runtime / path).parent.mkdir(parents=True, exist_ok=True)
        (runtime / path).write_text(text)
    runtime.chmod(0o700)
    inside = f"/tmp/{kind.name}"
    compositors.run("chroot", root, "chown", "-R", f"{compositors.USER}:", inside)
    environ = {
        **compositors.ENVIRON,
        "GSETTINGS_BACKEND": "keyfile",
        "XDG_RUNTIME_DIR": inside,
    }
    log = root.parent / f"{kind.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            compositors.inside(root, _SCRIPT.format(command=kind.command)),
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        end = time.monotonic() + PATIENCE
        while not (runtime / kind.socket).is_socket():
            _wait(end, process, log)
        desk = kind(runtime)
        try:
            while not desk.ready:
                _wait(end, process, log, desk.waits_for)
            desk.point(
                SIZE[0] - 1, SIZE[1] - 1
            )  # apps have a pointer from the first on
            yield desk
        finally:
            desk.close()
    finally:
        process.kill()
        process.wait()


def _wait(
    end: float, process: subprocess.Popen[bytes], log: Path, what: str = "its socket"
) -> None:
    if time.monotonic() > end or process.poll() is not None:
        said = log.read_text(errors="replace").strip()[-1500:]
        raise compositors.CannotRunError(f"{log.stem}: waited for {what}: {said}")
    time.sleep(0.2)
