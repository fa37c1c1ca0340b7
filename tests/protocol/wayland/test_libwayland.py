"""Our bytes against libwayland's: what it sends, we decode, and encode to the same."""

import importlib
import os
import pkgutil
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import pywayland.protocol
from pywayland import ffi, lib
from pywayland.client.display import Display as ClientDisplay
from pywayland.protocol.text_input_unstable_v3 import ZwpTextInputV3
from pywayland.protocol.wayland import (
    WlCallback,
    WlCompositor,
    WlKeyboard,
    WlPointer,
    WlRegion,
    WlRegistry,
    WlShm,
    WlSurface,
)
from pywayland.protocol.xdg_shell import XdgToplevel
from pywayland.protocol_core.interface import Interface as PywaylandInterface
from pywayland.server.client import Client
from pywayland.server.display import Display

from wlproxy.protocol.errors import WaylandError
from wlproxy.protocol.wayland.interface import ArgKind, ArgSpec, Interface, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import (
    DISPLAY_ID,
    ArgValue,
    Message,
    NewId,
)
from wlproxy.protocol.wayland.wire import (
    MessageSplitter,
    decode_message,
    encode_message,
    event_spec,
    request_spec,
)

Find = Callable[[Interface, int, int, int], MessageSpec]


class Peer:
    """The other end of a libwayland connection; knows what each id is."""

    def __init__(self, sock: socket.socket, find: Find, ids: dict[int, str]) -> None:
        self.sock = sock
        self.find = find
        self.ids = {DISPLAY_ID: "wl_display", **ids}

    def received(self) -> list[tuple[str, tuple[ArgValue, ...], int]]:
        """Decode all that libwayland sent; check that we would send the same."""
        data, received_fds, flags, _ = socket.recv_fds(self.sock, 1 << 16, 28)
        assert not flags & socket.MSG_CTRUNC
        splitter = MessageSplitter()
        splitter.feed(data)
        fds = list(received_fds)
        found = []
        try:
            while (raw := splitter.next_message()) is not None:
                interface = INTERFACES[self.ids[raw.object_id]]
                spec = self.find(
                    interface, interface.version, raw.object_id, raw.opcode
                )
                message = decode_message(spec, raw, fds)
                again = encode_message(raw.object_id, spec, message.args)
                assert again == raw.data
                self.remember(spec, message)
                found.append((str(spec), message.args, len(message.fds)))
            assert splitter.pending == 0
            assert not fds
        finally:
            for fd in received_fds:
                os.close(fd)
        return found

    def remember(self, spec: MessageSpec, message: Message[int]) -> None:
        if spec.new_id_index is not None:
            new = message.args[spec.new_id_index]
            if isinstance(new, NewId):
                self.ids[new.object_id] = new.interface.decode()
            else:
                new_id = message.integer(spec.new_id_index)
                self.ids.setdefault(new_id, str(spec.args[spec.new_id_index].interface))


@pytest.fixture
def client() -> Iterator[tuple[ClientDisplay, Peer]]:
    ours, theirs = socket.socketpair()
    with ours, ClientDisplay(theirs.detach()) as display:
        yield display, Peer(ours, request_spec, {})


@pytest.fixture
def server() -> Iterator[tuple[Client, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, Display() as display:
        libwayland = Client(display, theirs.detach())
        yield libwayland, ours
        libwayland.destroy()


def test_requests(client: tuple[ClientDisplay, Peer]) -> None:
    display, peer = client
    registry = display.get_registry()
    compositor = registry.bind(11, WlCompositor, 4)
    shm = registry.bind(12, WlShm, 1)
    surface = compositor.create_surface()
    fd = os.memfd_create("pool", os.MFD_CLOEXEC)
    try:
        pool = shm.create_pool(fd, 4096)
        buffer = pool.create_buffer(0, 32, 32, 128, 1)
        surface.attach(buffer, -1, 2)
        surface.damage(0, 1, -2, 0x7FFFFFFF)
        surface.attach(None, 0, 0)
        surface.commit()
        display.flush()
    finally:
        os.close(fd)
    assert peer.received() == [
        ("wl_display.get_registry", (2,), 0),
        ("wl_registry.bind", (11, NewId(b"wl_compositor", 4, 3)), 0),
        ("wl_registry.bind", (12, NewId(b"wl_shm", 1, 4)), 0),
        ("wl_compositor.create_surface", (5,), 0),
        ("wl_shm.create_pool", (6, None, 4096), 1),
        ("wl_shm_pool.create_buffer", (7, 0, 32, 32, 128, 1), 0),
        ("wl_surface.attach", (7, -1, 2), 0),
        ("wl_surface.damage", (0, 1, -2, 0x7FFFFFFF), 0),
        ("wl_surface.attach", (0, 0, 0), 0),
        ("wl_surface.commit", (), 0),
    ]


@pytest.mark.parametrize("title", ["", "a", "abc", "abcd", "Füße", "x" * 3000])
def test_requests_with_strings(client: tuple[ClientDisplay, Peer], title: str) -> None:
    display, peer = client
    registry = display.get_registry()
    toplevel = registry.bind(1, XdgToplevel, 1)
    text_input = registry.bind(2, ZwpTextInputV3, 1)
    toplevel.set_title(title)
    text_input.set_surrounding_text(title, -1, 2)
    display.flush()
    assert peer.received()[3:] == [
        ("xdg_toplevel.set_title", (title.encode(),), 0),
        ("zwp_text_input_v3.set_surrounding_text", (title.encode(), -1, 2), 0),
    ]


_resources: list[Any] = []


@pytest.fixture(autouse=True)
def resources_outlive_their_client() -> Iterator[None]:
    """Keep resources until libwayland has destroyed them.

    It calls pywayland for each, which aborts if the Python object is collected by then.
    """
    yield  # set up first, so torn down after `server`
    _resources.clear()


def resource_of(libwayland: Client, interface: Any, object_id: int) -> Any:
    resource = interface.resource_class(libwayland, interface.version, object_id)
    _resources.append(resource)
    return resource


def libwayland_args(spec: MessageSpec, values: Sequence[Any]) -> tuple[Any, Any]:
    """Build what libwayland marshals from, and what that must not outlive.

    Not with pywayland's own function, which cannot do arrays.
    """
    args: Any = ffi.new("union wl_argument[]", max(len(values), 1))
    kept: list[Any] = []
    for index, (arg, value) in enumerate(zip(spec.args, values, strict=True)):
        if arg.is_id:
            args[index].o = ffi.cast("struct wl_object *", value._ptr)
        elif arg.kind is ArgKind.STRING:
            kept.append(ffi.new("char[]", value))
            args[index].s = kept[-1]
        elif arg.kind is ArgKind.ARRAY:
            contents: Any = ffi.new("char[]", value)
            array: Any = ffi.new(
                "struct wl_array *", (len(value), len(value), contents)
            )
            kept += [contents, array]
            args[index].a = array
        else:
            setattr(args[index], arg.kind.value, value)
    return args, kept


def post(resource: Any, name: str, *values: Any) -> None:
    spec = INTERFACES[resource.interface.name].event(name)
    args, _kept = libwayland_args(spec, values)
    pointer: Any = ffi.cast("struct wl_resource *", resource._ptr)
    lib.wl_resource_post_event_array(pointer, spec.opcode, args)


def test_events(server: tuple[Client, socket.socket]) -> None:
    libwayland, ours = server
    interfaces = [
        WlSurface, WlPointer, WlKeyboard, XdgToplevel, ZwpTextInputV3, WlCallback,
        WlRegistry, WlRegion,
    ]  # fmt: skip
    surface, pointer, keyboard, toplevel, text_input, callback, registry, _ = (
        resources
    ) = [
        resource_of(libwayland, interface, object_id)
        for object_id, interface in enumerate(interfaces, 2)
    ]
    peer = Peer(
        ours,
        event_spec,
        {number: source.interface.name for number, source in enumerate(resources, 2)},
    )
    fd = os.memfd_create("keymap", os.MFD_CLOEXEC)
    try:
        registry.global_(1, "wl_shm", 2)
        pointer.enter(9, surface, 1.5, -0.5)
        pointer.motion(10, -1 / 256, 1000.0)
        keyboard.keymap(1, fd, 77)
        post(keyboard, "enter", 11, surface, b"\x1e\0\0\0")
        post(toplevel, "configure", 640, 480, b"")
        post(toplevel, "configure", 0, 0, bytes(5))
        text_input.preedit_string(None, 0, 0)
        text_input.preedit_string("é", 0, 2)
        callback.done(0xFFFFFFFF)
        libwayland.flush()
    finally:
        os.close(fd)
    assert peer.received() == [
        ("wl_registry.global", (1, b"wl_shm", 2), 0),
        ("wl_pointer.enter", (9, 2, 384, -128), 0),
        ("wl_pointer.motion", (10, -1, 256000), 0),
        ("wl_keyboard.keymap", (1, None, 77), 1),
        ("wl_keyboard.enter", (11, 2, b"\x1e\0\0\0"), 0),
        ("xdg_toplevel.configure", (640, 480, b""), 0),
        ("xdg_toplevel.configure", (0, 0, bytes(5)), 0),
        ("zwp_text_input_v3.preedit_string", (None, 0, 0), 0),
        ("zwp_text_input_v3.preedit_string", ("é".encode(), 0, 2), 0),
        ("wl_callback.done", (0xFFFFFFFF,), 0),
    ]


# ---------------------------------------------------------------- what is malformed


def words(*values: int) -> bytes:
    return struct.pack(f"={len(values)}I", *values)


@pytest.mark.parametrize(
    ("source", "opcode", "body"),
    [
        pytest.param(XdgToplevel, 2, words(0), id="null string"),
        pytest.param(XdgToplevel, 2, words(4) + b"abcd", id="no NUL"),
        pytest.param(XdgToplevel, 2, words(4) + b"a\0c\0", id="NUL within"),
        pytest.param(XdgToplevel, 2, words(40) + b"abc\0", id="string too long"),
        pytest.param(XdgToplevel, 2, words(0xFFFFFFFF) + b"abc\0", id="string huge"),
        pytest.param(XdgToplevel, 2, b"", id="no string"),
        pytest.param(XdgToplevel, 5, words(0, 1), id="null object"),
        pytest.param(WlSurface, 3, words(0), id="null new_id"),
        pytest.param(WlSurface, 10, words(1), id="too few arguments"),
        pytest.param(WlSurface, 99, b"", id="no such opcode"),
    ],
)
def test_we_refuse_what_libwayland_refuses(
    source: Any, opcode: int, body: bytes
) -> None:
    message = words(2, (8 + len(body)) << 16 | opcode) + body
    ours, theirs = socket.socketpair()
    with ours, Display() as display:
        # It frees this client itself when it drops it, so that we must not.
        libwayland = Client(display, theirs.detach())
        resource_of(libwayland, source, 2)
        ours.sendall(message)
        display.get_event_loop().dispatch(0)
        ((name, (object_id, code, _), _),) = Peer(ours, event_spec, {}).received()
    assert name == "wl_display.error"

    splitter = MessageSplitter()
    splitter.feed(message)
    raw = splitter.next_message()
    assert raw is not None
    with pytest.raises(WaylandError) as caught:
        decode_message(
            request_spec(
                INTERFACES[source.name], source.version, raw.object_id, raw.opcode
            ),
            raw,
            [0],
        )
    assert (caught.value.object_id, caught.value.code) == (object_id, code)


# ---------------------------------------------------------------- all of the tables


def described_interfaces() -> list[Any]:
    """Whatever pywayland describes, older versions too."""
    modules = [
        importlib.import_module(f"pywayland.protocol.{module.name}")
        for module in pkgutil.iter_modules(pywayland.protocol.__path__)
    ]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, PywaylandInterface)
        and value.__module__ == module.__name__
        and not module.__name__.endswith("xdg_shell_unstable_v5")
    ]


def described_where(source: Any) -> str:
    return f"{source.__module__.removeprefix('pywayland.protocol.')}.{source.name}"


def example(arg: ArgSpec, sender: Any, fd: int) -> Any:
    """A value that libwayland can marshal; the sender stands for every object."""
    return {
        ArgKind.INT: -2,
        ArgKind.UINT: 0xFFFFFFFE,
        ArgKind.FIXED: -257,
        ArgKind.STRING: b"text",
        ArgKind.ARRAY: b"array",
        ArgKind.OBJECT: sender,
        ArgKind.NEW_ID: sender,
        ArgKind.FD: fd,
    }[arg.kind]


def expected(spec: MessageSpec, examples: Sequence[Any], sender_id: int) -> Any:
    args = [
        sender_id if arg.is_id else None if arg.kind is ArgKind.FD else value
        for arg, value in zip(spec.args, examples, strict=True)
    ]
    return str(spec), tuple(args), spec.fd_count


@pytest.mark.parametrize("source", described_interfaces(), ids=described_where)
def test_every_event(server: tuple[Client, socket.socket], source: Any) -> None:
    libwayland, ours = server
    resource = resource_of(libwayland, source, 2)
    peer = Peer(ours, event_spec, {2: source.name})
    sent = []
    for spec in INTERFACES[source.name].events[: len(source.events)]:
        values = [example(arg, resource, ours.fileno()) for arg in spec.args]
        post(resource, spec.name, *values)
        sent.append(expected(spec, values, 2))
    if sent:
        libwayland.flush()
        assert peer.received() == sent


@pytest.mark.parametrize("source", described_interfaces(), ids=described_where)
def test_every_request(client: tuple[ClientDisplay, Peer], source: Any) -> None:
    display, peer = client
    proxy = display.get_registry().bind(1, source, source.version)
    display.flush()
    peer.received()
    sent = []
    for spec in INTERFACES[source.name].requests[: len(source.requests)]:
        if spec.has_untyped_new_id:  # has a test above
            continue
        values = [example(arg, proxy, peer.sock.fileno()) for arg in spec.args]
        args, _kept = libwayland_args(spec, values)
        pointer: Any = ffi.cast("struct wl_proxy *", proxy._ptr)
        lib.wl_proxy_marshal_array(pointer, spec.opcode, args)
        sent.append(expected(spec, values, 3))
    if sent:
        display.flush()
        assert peer.received() == sent
