"""What a guest may do: one value for a VM, which filters ask, and which may be another at any time.

Every field of a group is a key of the configuration file, `direction` of `clipboard` for one: with its
default, what it decides, and why that is the default.  `docs/policy.md` is made of them (`make tables`).
Nothing here knows where a value comes from (`host.policy_file`) or what follows of it (`filters`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from wlproxy.relay.look import AUTO, COLOURS, WIDTH, Colour, read_colour
from wlproxy.relay.policy import effective_policy
from wlproxy.relay.policy_keys import (
    KEY,
    Choice,
    Effect,
    Key,
    Kind,
    Names,
    Number,
    Versions,
    key,
)
from wlproxy.relay.quotas import (
    MAX_COPY_BYTES,
    MAX_LOCATIONS,
    MAX_RAM_LOCATED,
    MAX_RUNS,
    MAX_VM_COPY_BYTES,
    MAX_VM_LOCATIONS,
    MAX_VM_RUNS,
)

GESTURE_SECONDS: Final = 1.0
"""How long after a key or a button was pressed what it was pressed for may happen (`ask`)."""


class Switch(Enum):
    """Whether something is granted."""

    ON = "on"
    OFF = "off"


class Direction(Enum):
    """Which way data may go between the guest and the host's apps."""

    BOTH = "both"
    TO_GUEST = "to-guest"
    TO_HOST = "to-host"
    OFF = "off"
    ASK = "ask"
    """Both, but only just after a key or a button was pressed in that window, or the user said yes."""

    @property
    def to_guest(self) -> bool:
        """Whether the guest may have what the host offers."""
        return self in (Direction.BOTH, Direction.TO_GUEST, Direction.ASK)

    @property
    def to_host(self) -> bool:
        """Whether the host may have what the guest offers."""
        return self in (Direction.BOTH, Direction.TO_HOST, Direction.ASK)


class Managers(Enum):
    """Which selections clipboard managers of the guest may read and replace."""

    OWN = "own"
    ALL = "all"


class Fullscreen(Enum):
    """Whether windows may fill the screen."""

    OFF = "off"
    FRAMED = "framed"
    """With the frame that is around them."""
    ON = "on"


class Popups(Enum):
    """Whether what opens beside a window is framed as that is."""

    FRAMED = "framed"
    FREE = "free"


_SWITCH: Final = Choice(Switch)
_NAMES: Final = Names("names of globals")


@dataclass(frozen=True, slots=True)
class Globals:
    """Which globals a guest sees ([all of them](protocols.md)).

    Attributes:
        caps: what follows: interface name to the highest version that a guest may bind.
    """

    allow: tuple[str, ...] = key(
        (),
        _NAMES,
        "Globals that the guest sees besides.",
        "What reaches beyond an app's own windows, or is rarely needed, is not granted unasked.",
        Effect.BOUND,
    )
    deny: tuple[str, ...] = key(
        (),
        _NAMES,
        "Globals that the guest does not see.",
        "Apps expect what is allowed, and many do not start without.",
        Effect.BOUND,
    )
    versions: Mapping[str, int] = key(
        MappingProxyType({}),
        Versions(),
        "The highest version of some, where it is to be less than wlproxy can relay.",
        "Newer versions repair older ones.",
        Effect.BOUND,
    )
    caps: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Say what follows.

        Raises:
            ValueError: a name is that of no global, or of one that cannot be relayed.
        """
        caps = effective_policy(self.allow, self.deny, self.versions)
        object.__setattr__(self, "caps", MappingProxyType(caps))


def check_names(option: str, names: tuple[str, ...]) -> None:
    """Judge what `--allow` or `--deny` says.

    Args:
        option: `allow` or `deny`.
        names: that it has.

    Raises:
        ValueError: one is that of no global, or of one that cannot be relayed.
    """
    if option == "allow":
        Globals(allow=names)
    else:
        Globals(deny=names)


_ANY_TYPE: Final = ("*",)
_TYPES: Final = Names("MIME types")
_MORE_TYPES: Final = (
    "MIME types that may cross; `*` stands for any characters, as in `text/*`. Apps that are older than MIME "
    "also say `UTF8_STRING`, `STRING` and `TEXT`."
)
_NO_BOUND_OF_BYTES: Final = (
    "A transfer costs the host a pipe and a window of 128 KiB, however long it is."
)
_BYTES: Final = "Bytes of one transfer, after which it ends; 0: no limit."
_TYPE_COUNT: Final = "MIME types that one offer may have; more are left out."


@dataclass(frozen=True, slots=True)
class Clipboard:
    """What is copied and pasted, by clipboard managers as well."""

    direction: Direction = key(
        Direction.BOTH,
        Choice(Direction),
        "Which way what is copied may go. Between two apps of the guest it goes through the host, so that only `both` "
        "and `ask` let it. `ask`: an app may copy, and read what was copied, only within a second after a key or "
        "a button was pressed in its window that has the focus, or once you [were asked](#what-ask-asks).",
        "A window on the desktop that cannot paste is taken for broken.",
    )
    types: tuple[str, ...] = key(
        _ANY_TYPE, _TYPES, _MORE_TYPES, "No MIME type is safe, or unsafe, by its name."
    )
    max_types: int = key(
        256, Number(1), _TYPE_COUNT, "Browsers and office suites offer a few dozen."
    )
    max_bytes: int = key(0, Number(), _BYTES, _NO_BOUND_OF_BYTES)
    managers: Managers = key(
        Managers.OWN,
        Choice(Managers),
        "What the guest's clipboard managers may read and replace (`ext_data_control_v1` and its like, where `globals.allow` "
        "has them): `own`: what apps of this VM have copied ([more](#what-clipboard-managers-may-set)); `all`: what apps "
        "may read, and whatever there is. `direction` binds them as well.",
        "They read and replace everything unasked, also what is meant for other windows.",
    )

    def is_asked_for(self, *, gesture: bool) -> bool:
        """Whether something may happen now, as far as `ask` has a say.

        Args:
            gesture: the user has just pressed a key or a button.
        """
        return gesture or self.direction is not Direction.ASK

    def has_type(self, name: bytes) -> bool:
        """Whether a MIME type may cross."""
        if "*" in self.types:
            return True
        text = name.decode("utf-8", "replace")
        return any(fnmatchcase(text, each) for each in self.types)


@dataclass(frozen=True, slots=True)
class Primary(Clipboard):
    """What is selected, and pasted with the middle button."""


_DRAG_ASKS: Final = 'cannot be "ask": a drag begins and ends with a button of the user\'s, so that each is a gesture'


@dataclass(frozen=True, slots=True)
class Drag(Clipboard):
    """What is dragged and dropped."""

    direction: Direction = key(
        Direction.BOTH,
        Choice(Direction, {Direction.ASK.value: _DRAG_ASKS}),
        "Which way what is dragged may go. A drag that may not leave the guest ends at once; one that may not enter "
        "passes over its windows as if they took nothing. What is dragged from one window of an app to another "
        "goes through the host, too, unless the app says that it is its own.",
        "Only the user's hand drags something, and drops it.",
    )
    managers: Managers = field(init=False, default=Managers.ALL)


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows, and what they ask of the desktop."""

    fullscreen: Fullscreen = key(
        Fullscreen.FRAMED,
        Choice(Fullscreen),
        "Whether windows may fill a screen because an app asks for it. `framed`: the VM's frame, if it has one, stays "
        "around them; `on`: it goes until they fill the screen no more. The desktop's own key for it works all the "
        "same, also where the answer is `off`, and the frame stays then.",
        "Video players and games need it; the compositor says how to leave it, and the frame whose picture it is.",
        Effect.NEXT,
    )
    popups: Popups = key(
        Popups.FRAMED,
        Choice(Popups),
        "Whether menus, tooltips and the like have a thin line of the colour of the VM's frame around them, if it has "
        "one. They may reach beyond their window, and over others.",
        "Nothing else says whose they are.",
        Effect.NEXT,
    )
    activation: Switch = key(
        Switch.ON,
        _SWITCH,
        "Whether apps may ask for the focus, or for attention.",
        "Compositors give the focus only after a gesture of the user's.",
    )
    icons: Switch = key(
        Switch.ON,
        _SWITCH,
        "Whether windows may have icons of the app's own.",
        "The title has the VM's name, whatever the icon looks like.",
        Effect.NEXT,
    )
    colour_profiles: Switch = key(
        Switch.OFF,
        _SWITCH,
        "Whether apps may say by ICC profiles, in files of their own, what their colours mean. Numbers do for most.",
        "The compositor reads them by a library that was made for the user's own files.",
        Effect.NEXT,
    )
    idle_inhibition: Switch = key(
        Switch.ON,
        _SWITCH,
        "Whether a window that is visible may keep the screen from going dark.",
        "Video players need it.",
        Effect.NEXT,
    )
    max_windows: int = key(
        1024,
        Number(1),
        "Windows that one app may have at a time; one that makes more ends with an error.",
        "More than any app has, and few enough for a desktop to go on.",
    )
    max_width: int = key(
        16384,
        Number(1),
        "The width of a picture, in pixels; a wider one is not shown.",
        "GPUs take no wider textures, and screens are narrower.",
        Effect.NEXT,
    )
    max_height: int = key(
        16384,
        Number(1),
        "The height of a picture, in pixels; a higher one is not shown.",
        "The same.",
        Effect.NEXT,
    )


class Colours(Kind[Colour]):
    """The colour of a frame, or a word."""

    name = f'"auto", "off", "#rrggbb", or one of {", ".join(COLOURS)}'

    def read(self, value: object) -> Colour:
        """Take a colour, or a word."""
        if not isinstance(value, str):
            raise ValueError(f"is to be {self.name}")  # noqa: TRY004 - a user's
        return read_colour(value)

    def write(self, value: Colour) -> str:
        """Write it as it was written."""
        return f'"{value.written}"'


@dataclass(frozen=True, slots=True)
class Frame:
    """The frame around each of the VM's windows, drawn by the host ([frames](frame.md))."""

    colour: Colour = key(
        AUTO,
        Colours(),
        "Its colour; `off`: there is no frame. `auto`: if the configuration file has several VMs, each has one that no "
        "other has, up to six of them; if not, there is no frame.",
        "Windows of one VM are known by their titles; of several, nobody can tell at a glance whose a window is.",
        Effect.REPAINT,
    )
    label: Switch = key(
        Switch.ON,
        _SWITCH,
        "Whether the VM's name is in its upper side, where Pillow is installed.",
        "A name is not mixed up, as colours are.",
        Effect.NEW_APPS,
    )
    width: int = key(
        WIDTH,
        Number(1, 64),
        "How wide it is, in pixels as apps count them; with a label, the upper side is wider.",
        "It is seen at a glance, and takes little room.",
        Effect.NEW_APPS,
    )


@dataclass(frozen=True, slots=True)
class Pointer:
    """The pointer."""

    lock: Switch = key(
        Switch.ON,
        _SWITCH,
        "Whether a window with the focus may hold the pointer at its place.",
        "Games and viewers of machines need it; the compositor ends it with the focus.",
        Effect.NEXT,
    )
    confine: Switch = key(
        Switch.ON,
        _SWITCH,
        "Whether a window with the focus may keep the pointer within itself.",
        "The same.",
        Effect.NEXT,
    )
    warp: Switch = key(
        Switch.ON,
        _SWITCH,
        "Whether an app may move the pointer within its window, or say where a held one is when it is let go of.",
        "Only within the app's own window, while it has the pointer.",
    )
    hide: Switch = key(
        Switch.ON,
        _SWITCH,
        "Whether an app may take the pointer's picture away. A transparent picture looks the same, and is not noticed.",
        "Players and editors hide it while nothing moves.",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the host a VM, and one app of it, may take up."""

    app_copy_bytes: int = key(
        MAX_COPY_BYTES,
        Number(),
        "Bytes of the host's memory for what is copied (mode C, and colour profiles), of one app.",
        "Enough for 30 windows of 4K.",
        Effect.NEW_APPS,
    )
    vm_copy_bytes: int = key(
        MAX_VM_COPY_BYTES,
        Number(),
        "The same of all apps together.",
        "One app is not to have all of it.",
    )
    app_locations: int = key(
        MAX_LOCATIONS,
        Number(1),
        "Pictures that are located in the guest's RAM at a time, of one app.",
        "Each is a mapping of the compositor's, which may have 65530.",
        Effect.NEW_APPS,
    )
    vm_locations: int = key(
        MAX_VM_LOCATIONS,
        Number(1),
        "The same of all apps together; never more than half of the fds that the proxy may open.",
        "The compositor is to have mappings left for others.",
    )
    app_runs: int = key(
        MAX_RUNS,
        Number(1),
        "Runs of pages in them, of one app.",
        "The host keeps 16 bytes for each.",
        Effect.NEW_APPS,
    )
    vm_runs: int = key(
        MAX_VM_RUNS, Number(1), "The same of all apps together.", "The same."
    )
    ram_times: int = key(
        MAX_RAM_LOCATED,
        Number(1, 64),
        "How many times over all apps together may have the guest's RAM located.",
        "One app may have all of it once, and is not to leave nothing to others.",
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """All that is decided for a VM."""

    globals: Globals = field(default_factory=Globals)
    clipboard: Clipboard = field(default_factory=Clipboard)
    primary: Primary = field(default_factory=Primary)
    drag: Drag = field(default_factory=Drag)
    windows: Windows = field(default_factory=Windows)
    frame: Frame = field(default_factory=Frame)
    pointer: Pointer = field(default_factory=Pointer)
    limits: Limits = field(default_factory=Limits)

    @property
    def asks(self) -> bool:
        """Whether it matters when a key or a button was pressed."""
        return Direction.ASK in (self.clipboard.direction, self.primary.direction)


GROUPS: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        each.name: kind
        for each, kind in zip(
            fields(Policy),
            (Globals, Clipboard, Primary, Drag, Windows, Frame, Pointer, Limits),
            strict=True,
        )
    }
)
"""Name of a group, in the file and in `Policy`, to its class."""


class Row(NamedTuple):
    """A key, and where it is.

    Attributes:
        group: its table's name.
        name: as the file has it.
        attribute: as Python has it.
        key: what is known of it.
    """

    group: str
    name: str
    attribute: str
    key: Key

    @property
    def path(self) -> str:
        """Its name, with that of its table."""
        return f"{self.group}.{self.name}"

    def of(self, policy: Policy) -> object:
        """Return its value."""
        return getattr(getattr(policy, self.group), self.attribute)

    def written(self, policy: Policy) -> str:
        """Return its value, as TOML."""
        return self.key.kind.write(self.of(policy))


def rows(group: str) -> Iterator[Row]:
    """Yield the keys of a group."""
    for each in fields(GROUPS[group]):
        if (known := each.metadata.get(KEY)) is not None:
            name = each.name.replace("_", "-")
            yield Row(group, name, each.name, known)


ROWS: Final = tuple(row for group in GROUPS for row in rows(group))
"""Every key that there is."""
