"""The relay between an app and a compositor that do whatever comes to mind.

Both ends check what reaches them as libwayland does (`tests.relay.app`, `compositor`),
and the shell in between watches over handles, pins and pages, whether or not the other
ends keep the rules.  Besides:

* Nothing but `RemoteProtocolError` comes out of the relay, and only for what an agent
  sent that it may not send.
* Who kept the rules is not ended.
* When the client is gone, nothing of it is left: no handle, no pin, no share of a quota.
* A relay beside it that is taken apart and put together again now and then says the same.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from tests.fuzz.choices import Choices
from tests.fuzz.finding import FindingError
from tests.relay.compositor import RefusedError
from tests.relay.dmabufs import NV12, VIDEO, XRGB, DmabufStage
from tests.relay.playbook import NOTHING, ONLY_SHM
from tests.relay.things import DESTRUCTORS, Thing
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    CloseReason,
    Data,
    Extent,
    Located,
    LocateStatus,
    Released,
)
from wlproxy.protocol.errors import RemoteProtocolError
from wlproxy.protocol.wayland.interface import ArgKind, ArgSpec, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import ArgValue, NewId
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.relay import policy_tree
from wlproxy.relay.commands import CloseClient, CreateUdmabuf, Direction
from wlproxy.relay.handles import shell_handles
from wlproxy.relay.inputs import (
    CompositorClosed,
    FdKind,
    Input,
    PolicyChanged,
    ReceivedFd,
    SessionEnded,
    TimerEnded,
    UserAnswered,
)
from wlproxy.relay.look import WindowFrame
from wlproxy.relay.policy import effective_policy
from wlproxy.relay.policy_tree import (
    Clipboard,
    Drag,
    Fullscreen,
    Globals,
    Pointer,
    Policy,
    Popups,
    Primary,
    Switch,
    Windows,
)

NUMBERS = (0, 1, 2, 16, 64, 255, 256, 4096, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
STRINGS = (b"", b"a", b"text/plain", "schön \u202e".encode(), b"\xff\xfe", b"x" * 300)
DECIDED = 0.02
"""How often the user decides anew, before something happens."""
DESCRIBED = 0.1
"""How often the app has a colour profile, before something happens."""
_NO = Switch.OFF
POLICIES = (
    Policy(),
    Policy(
        Globals(),  # none is taken away: who binds it just then would end
        *(
            Clipboard(policy_tree.Direction.ASK),
            Primary(policy_tree.Direction.TO_HOST),
            Drag(policy_tree.Direction.OFF),
        ),
        Windows(Fullscreen.ON, colour_profiles=Switch.ON),
    ),
    Policy(
        Globals(allow=("wl_shell",)),
        *(
            Clipboard(policy_tree.Direction.OFF),
            Primary(policy_tree.Direction.TO_GUEST, ("a*",), 1, 9),
        ),
        Drag(policy_tree.Direction.TO_GUEST),
        Windows(Fullscreen.OFF, Popups.FREE, _NO, _NO, _NO, max_width=64),
        pointer=Pointer(_NO, _NO, _NO, _NO),
    ),
)
FRAMING = re.compile("a framed window may have|windows are to be framed")
"""Why an app may be ended that did nothing wrong, if its windows are framed."""
APART = 0.04
"""The part of inputs before which a relay is taken apart."""
JUDGED = {
    *("wl_display", "wl_registry", "wl_shm", "wl_shm_pool"),
    *("zwp_linux_dmabuf_v1", "zwp_linux_buffer_params_v1"),
    # Which takes profiles of the guest's, where policy has it so: see `_describe_colours`.
    *("wp_color_manager_v1", "wp_image_description_creator_icc_v1"),
}
"""Whose requests the relay judges itself: with arguments at random they may be wrong."""
SCRIPTED = {
    *("wl_display", "wl_registry", "wl_callback"),
    *("zwp_linux_buffer_params_v1", "zwp_linux_dmabuf_feedback_v1"),
}
"""Whose events mean something only at the right moment: the compositor's own script."""


class Conversation:
    """One client's life, as an input's bytes decide.

    Attributes:
        messages: how many requests and events were sent.
    """

    def __init__(self, choices: Choices, frame: WindowFrame | None = None) -> None:
        self.messages = 0
        self._choices = choices
        self._handles = shell_handles()
        self._streams = iter(range(2, 1 << 31, 2))
        self._broken: list[str] = []
        """Who broke a rule, and how; the client may be ended from then on."""
        capabilities = choices.pick([VIDEO, ONLY_SHM, NOTHING])
        self._imports = capabilities.dmabuf_stride_alignment
        # A policy that allows what cannot be framed is refused then (`host.policy_file`).
        self._policies = [p for p in POLICIES if frame is None or not p.globals.allow]
        self._policy = Policy()
        self._looks = [frame]
        if frame is not None:
            self._looks += [None, replace(frame, colour=0, width=frame.width + 1)]
        self._play = DmabufStage(capabilities, frame=frame)
        self._play.relay.is_due = self._is_apart
        self._play.app.meets_late_events = True
        self._play.host.imports = choices.pick(["accept", "hold", "refuse"])
        self._play.create_fails = {CreateUdmabuf} if choices.chance(10) else set()
        self._roots = (self._play.shm, self._play.compositor, self._play.dmabuf)
        self._surfaces = [self._play.surface]
        self._buffers: list[Thing] = []
        self._pools: list[Thing] = []
        self._actions: list[Callable[[], None]] = [
            *[self._request] * 8,
            *[self._event] * 6,
            *[self._show] * 6,
            *[self._create_buffer] * 2,
            *[self._destroy] * 2,
            *[self._bind] * 2,
            self._create_dmabuf,
            self._create_pool,
            self._create_surface,
            self._become_slow,
            self._catch_up,
            self._lose_global,
        ]
        self._crimes: list[Callable[[], None]] = [
            *[self._bogus_request] * 4,
            *[self._bogus_event] * 4,
            self._bogus_located,
            self._bogus_frame,
            self._leave,
        ]

    def run(self) -> None:
        """Have it happen.

        Raises:
            AssertionError: something is wrong with the relay.
        """
        registry = self._play.host_thing("wl_registry")
        for name in sorted(effective_policy()):
            if name not in {known for known, _ in self._play.host.globals.values()}:
                self._announce(registry, name)
        self._play.flush()
        while self._choices.more and self._play.closed is None:
            actions = self._crimes if self._choices.chance(2) else self._actions
            self.messages += 1
            self._act(self._choices.pick(actions))
            if self._choices.aside.random() < DESCRIBED and self._play.closed is None:
                self._act(self._describe_colours)
        if self._play.closed is None:
            self._become_slow(slow="none")
            self._act(self._catch_up)
        if self._play.closed is None and not self._broken:
            self._act(self._destroy_all)
            self._act(self._check_quotas)
        self._check_leftovers()

    def _is_apart(self) -> bool:
        """Whether to take a relay apart before an input."""
        if self._choices.aside.random() >= APART:
            return False
        self._play.relay.compare()
        return True

    def _change_policy(self) -> None:
        """Have the user decide anew, and answer; what was timed is over."""
        policy = self._policy = self._choices.aside.choice(self._policies)
        look = self._choices.aside.choice(self._looks)
        self._play.run(self._play.relay.receive(PolicyChanged(policy, look)))
        while self._play.timers and self._play.closed is None:
            ended = TimerEnded(1, self._play.timers.pop().number)
            self._play.run(self._play.relay.receive(ended))
        while self._play.questions and self._play.closed is None:
            number, says = self._play.questions.pop().number, self._choices.aside
            answer = UserAnswered(1, number, says.random() < 0.5)
            self._play.run(self._play.relay.receive(answer))

    def _act(self, action: Callable[[], None]) -> None:
        if self._choices.aside.random() < DECIDED and self._play.closed is None:
            self._change_policy()
        try:
            action()
        except RefusedError:  # a compositor ends whoever names what it has destroyed
            if not any(how.startswith("the app") for how in self._broken):
                raise
            refused = CompositorClosed(1, "it was refused")
            commands = self._play.relay.receive(refused)
            if not commands and self._play.closed is None:
                # By something else, in the batch that the refusal cut short.
                end = CloseClient(1, CloseReason.PROTOCOL_ERROR, "it has ended")
                commands = [end]
            self._play.run(commands)
        self._check_ended()

    def _describe_colours(self) -> None:
        """Have the app say what its colours mean by a profile, if it may."""
        play, aside = self._play, self._choices.aside
        interface = "wp_color_manager_v1"
        there = {known for known, _ in play.app.globals.values()}
        may = self._policy.windows.colour_profiles is Switch.ON
        stalled = play.relay.holdings().clients[1].stalled
        if interface not in there or not may or stalled:
            return
        managers = [
            thing
            for thing in play.app.things.values()
            if thing.alive and thing.interface.name == interface
        ] or [play.app.bind(interface)]
        play.holds_read = aside.random() < 0.3
        creator = play.app.request(aside.choice(managers), "create_icc_creator")
        if play.closed is None:
            file, length = play.memory(4096), aside.randint(1, 4096)
            place = aside.randint(0, 4096 - length), length
            play.app.request(creator, "set_icc_file", *place, attach=[file])
        if play.closed is None:
            play.app.request(creator, "create")

    # ------------------------------------------------------------ who keeps the rules

    def _request(self) -> None:
        """Send any request of any object, its arguments well-formed."""
        things = [t for t in self._play.app.things.values() if t.alive]
        thing = self._choices.pick(things)
        if thing.interface.name in JUDGED and not self._choices.chance(5):
            return
        requests = [
            spec
            for spec in thing.interface.requests
            if spec.since <= thing.version and spec.name not in DESTRUCTORS
        ]
        if not requests:
            return
        spec = self._choices.pick(requests)
        if thing.interface.name == "wl_registry":
            return
        if spec.name == "destroy_registry":
            self._renew_registry(thing)
            return
        args = self._args(spec, self._play.app.things)
        if args is None:
            return
        if thing.interface.name in JUDGED:
            self._break(f"the app sends any {spec}")
        attach = [self._attachment() for _ in range(spec.fd_count)]
        self._play.app.request(thing, spec.name, *args, attach=attach)

    def _event(self) -> None:
        """Send any event of any object, its arguments well-formed."""
        host = self._play.host
        things = [
            thing
            for thing in host.things.values()
            if thing.interface.events and thing.interface.name not in SCRIPTED
        ]
        if not things:
            return
        thing = self._choices.pick(things)
        events = [
            spec for spec in thing.interface.events if spec.since <= thing.version
        ]
        if not events:
            return
        spec = self._choices.pick(events)
        args = self._args(spec, host.things)
        if args is None:
            return
        fds = [self._fd() for _ in range(spec.fd_count)]
        host.event(thing, spec.name, *args, fds=fds)
        self._play.run([])

    def _args(
        self, spec: MessageSpec, things: dict[int, Thing]
    ) -> list[ArgValue] | None:
        """Choose arguments; None if there is no object that is asked for."""
        args: list[ArgValue] = []
        for arg in spec.args:
            if arg.kind is ArgKind.FD or (
                arg.kind is ArgKind.NEW_ID and arg.interface is not None
            ):
                continue
            value = self._arg(arg, things)
            if value is None:
                return None
            args.append(value)
        return args

    def _arg(self, arg: ArgSpec, things: dict[int, Thing]) -> ArgValue:
        choices = self._choices
        match arg.kind:
            case ArgKind.INT | ArgKind.FIXED:
                number = choices.pick(NUMBERS)
                return number - (1 << 32) if number >> 31 else number
            case ArgKind.UINT:
                return choices.pick(NUMBERS)
            case ArgKind.STRING:
                return choices.pick(STRINGS)
            case ArgKind.ARRAY:
                return choices.data(40)
            case ArgKind.OBJECT:
                fits = [
                    thing.id
                    for thing in things.values()
                    if thing.alive and arg.interface in (None, thing.interface.name)
                ]
                if arg.nullable and (not fits or choices.chance(20)):
                    return 0
                return choices.pick(fits) if fits else None
            case _:
                return None  # an id of any interface: wl_registry.bind alone

    def _attachment(self) -> Attachment:
        if self._choices.chance(50):
            return self._play.memory(4096)
        flags = self._choices.pick(
            [AttachmentFlags.HOLDER_READS, AttachmentFlags.HOLDER_WRITES]
        )
        return Attachment(AttachmentKind.STREAM, flags, next(self._streams), 0)

    def _fd(self) -> ReceivedFd:
        handle = next(self._handles)
        self._play.shell.others.add(handle)
        kind = self._choices.pick(list(FdKind))
        if kind is FdKind.STREAM:
            return ReceivedFd(handle, kind, 0, self._choices.pick(list(Direction)))
        return ReceivedFd(handle, kind, 100 if kind is FdKind.FILE else 0)

    def _bind(self) -> None:
        app = self._play.app
        name, (interface, version) = self._choices.pick(sorted(app.globals.items()))
        newest = min(version, INTERFACES[interface].version)
        thing = app.new(interface, 1 + self._choices.number(newest))
        new_id = NewId(interface.encode(), thing.version, thing.id)
        spec = app.registry.interface.request("bind")
        self._play.send(encode_message(app.registry.id, spec, (name, new_id)))

    def _renew_registry(self, fixes: Thing) -> None:
        """Destroy the registry as wl_fixes lets apps do, and take another."""
        app = self._play.app
        registry = app.registry
        app.destroyed(registry)
        app.request(fixes, "destroy_registry", registry.id)
        app.request(app.display, "get_registry")

    def _create_pool(self) -> None:
        if len(self._pools) < 3:
            self._pools.append(self._play.pool(self._play.shm, 9216))

    def _create_buffer(self) -> None:
        if not self._pools:
            self._create_pool()
        elif len(self._buffers) < 6:
            pool = self._choices.pick(self._pools)
            offset = self._choices.pick([0, 256, 4096, 5000])
            self._buffers.append(self._play.buffer(pool, offset, 16, 16, 256))

    def _create_dmabuf(self) -> None:
        if len(self._buffers) < 6:
            fmt = XRGB
            if NV12 in self._imports:
                fmt = self._choices.pick([XRGB, NV12])
            self._buffers.append(self._play.immed((16, 16), fmt))

    def _create_surface(self) -> None:
        if len(self._surfaces) < 3:
            self._surfaces.append(self._play.new_surface())

    def _show(self) -> None:
        surfaces = [surface for surface in self._surfaces if surface.alive]
        buffers = [buffer for buffer in self._buffers if buffer.alive]
        if surfaces and buffers:
            self._play.show(self._choices.pick(surfaces), self._choices.pick(buffers))

    def _destroy(self) -> None:
        app = self._play.app
        things = [
            (thing, spec.name)
            for thing in app.things.values()
            if thing.alive and thing not in self._roots
            for spec in thing.interface.requests
            if spec.name in DESTRUCTORS and spec.since <= thing.version
        ]
        if things:
            thing, name = self._choices.pick(things)
            if not thing.interface.request(name).args:
                app.request(thing, name)
        for each in (self._buffers, self._pools, self._surfaces):
            each[:] = [thing for thing in each if thing.alive]

    def _destroy_all(self) -> None:
        """Destroy what can be, the newest first; the compositor lets go of it."""
        app = self._play.app
        for thing in sorted(app.things.values(), key=lambda each: -each.id):
            names = {each.name: each for each in thing.interface.requests}
            for name in DESTRUCTORS & names.keys():
                spec = names[name]
                if thing.alive and not spec.args and spec.since <= thing.version:
                    app.request(thing, name)
                    self._catch_up()

    def _announce(self, registry: Thing, interface: str) -> None:
        host = self._play.host
        name = max(host.globals) + 1
        version = INTERFACES[interface].version
        host.globals[name] = (interface, version)
        host.event(registry, "global", name, interface.encode(), version)

    def _lose_global(self) -> None:
        host = self._play.host
        name = self._choices.pick(sorted(host.globals.keys() - {1, 2}))
        for registry in [*host.things.values()]:
            if registry.interface.name == "wl_registry":
                host.event(registry, "global_remove", name)
        self._play.run([])

    def _become_slow(self, slow: str = "") -> None:
        slow = slow or self._choices.pick(
            ["none", "locate", "create", "deliver", "sync", "release"]
        )
        self._play.holds_locate = slow == "locate"
        self._play.holds_create = slow == "create"
        self._play.holds_read = False
        self._play.deliver = slow != "deliver"
        self._play.host.answers_sync = slow != "sync"
        self._play.host.releases = slow != "release"

    def _catch_up(self) -> None:
        """Have everything answered that the others wait for."""
        play = self._play
        for _ in range(200):
            if play.closed is not None:
                return
            if play.locates and not play.holds_locate:
                self._answer_locate()
            elif play.creates and not play.holds_create:
                play.answer_create()
            elif play.reads and not play.holds_read:
                play.answer_read(whole=self._choices.aside.random() < 0.7)
            elif play.host.waiting and play.host.answers_sync:
                play.host.answer()
                play.run([])
            elif play.host.out and play.deliver:
                play.run([])
            else:
                return

    def _answer_locate(self) -> None:
        play = self._play
        if not self._choices.chance(20):
            play.answer_locate()
            return
        self._break("the guest cannot locate a buffer")
        locate = play.locates[0]
        status = self._choices.pick(
            [s for s in LocateStatus if s is not LocateStatus.OK]
        )
        errno = 5 if status is LocateStatus.FAILED else 0
        play.answer_locate(Located(1, locate.location_id, status, errno, False, ()))

    # ------------------------------------------------------------ who breaks them

    def _break(self, how: str) -> None:
        self._broken.append(how)

    def _bogus_request(self) -> None:
        """Send a request as it must not be: whole garbage, or one word of it wrong."""
        self._break("the app sends garbage")
        app = self._play.app
        thing = self._choices.pick(list(app.things.values()))
        attach = [self._attachment() for _ in range(self._choices.number(3))]
        # Garbage may be a message all the same, of which the app knows nothing.
        app.checks = False
        self._play.send(
            self._bogus(thing, thing.interface.requests, app.things), attach
        )

    def _bogus_event(self) -> None:
        self._break("the compositor sends garbage")
        host = self._play.host
        # Not of the display: an id given back too early does no less to an app directly.
        things = [thing for thing in host.things.values() if thing is not host.display]
        if not things:
            return
        thing = self._choices.pick(things)
        fds = [self._fd() for _ in range(self._choices.number(3))]
        data = self._bogus(thing, thing.interface.events, host.things)
        # It may have given away ids that it still uses.
        host.checks = self._play.app.trusts_ids = False
        self._play.from_compositor(data, *fds)

    def _bogus(
        self, thing: Thing, specs: tuple[MessageSpec, ...], things: dict[int, Thing]
    ) -> bytes:
        choices = self._choices
        if choices.chance(20) or not specs:
            return choices.data(64)
        spec = choices.pick(specs)
        args: list[ArgValue] = []
        for arg in spec.args:
            match arg.kind:
                case ArgKind.FD:
                    args.append(None)
                case ArgKind.OBJECT:
                    args.append(choices.pick([99, *things]))
                case ArgKind.NEW_ID if arg.interface is None:
                    name = choices.pick(sorted(INTERFACES)).encode()
                    args.append(NewId(name, choices.number(9), self._any_id(things)))
                case ArgKind.NEW_ID:
                    args.append(self._any_id(things))
                case _:
                    args.append(self._arg(arg, things))
        target = choices.pick([thing.id, thing.id, thing.id, 0, 99])
        data = bytearray(encode_message(target, spec, args))
        if choices.chance(15):
            at = choices.number(len(data))
            data[at] = choices.number(256)
        elif choices.chance(15) and len(data) > 8:  # null, where it may not be
            at = 8 + 4 * choices.number(len(data) // 4 - 2)
            data[at : at + 4] = bytes(4)
        return bytes(data)

    def _any_id(self, things: dict[int, Thing]) -> int:
        return self._choices.pick([50, 0xFF000000, 0xFF000007, *things])

    def _bogus_located(self) -> None:
        """Answer a question about pages with others than were asked for."""
        play = self._play
        if not play.locates:
            return
        self._break("the agent lies")
        locate = play.locates.pop(0)
        pages = -(-(locate.offset % 4096 + locate.length) // 4096)
        wrong = [
            (Extent(1 << 20, (pages + 1) * 4096),),
            (Extent(1 << 40, pages * 4096),),
            (Extent(0, pages * 4096),),
            (Extent((1 << 20) + 1, pages * 4096),),
            (Extent((1 << 64) - 4096, pages * 4096),),
            (Extent(1 << 20, pages * 4096), Extent(1 << 20, 4096)),
            (Extent(1 << 20, pages * 4096 - 1),),
        ]
        extents = self._choices.pick(wrong)
        located = Located(
            1, locate.location_id, LocateStatus.OK, 0, self._choices.chance(20), extents
        )
        try:
            play.run(play.relay.receive(located))
        except RemoteProtocolError:
            self._session_over()
        else:
            if not located.more:
                raise FindingError(
                    f"the relay believes {located} as an answer to {locate}"
                )

    def _bogus_frame(self) -> None:
        self._break("the agent breaks the channel's rules")
        frames: list[Input] = [
            Located(1, 999, LocateStatus.FAILED, 5, False, ()),
            Located(7, 1, LocateStatus.OK, 0, False, (Extent(1 << 20, 4096),)),
            Released(1, 999),
            Data(7, b"12345678"),
            Data(
                1, b"", (Attachment(AttachmentKind.OTHER, AttachmentFlags.NONE, 0, 0),)
            ),
        ]
        frame = self._choices.pick(frames)
        if isinstance(frame, Data):
            self._break("the app attaches what no message asks for")
        try:
            self._play.run(self._play.relay.receive(frame))
        except RemoteProtocolError:
            self._session_over()

    def _leave(self) -> None:
        self._break("the app leaves")
        self._play.leave()

    # ------------------------------------------------------------ what must hold

    def _session_over(self) -> None:
        """As the shell does when the agent broke the protocol: every client is closed."""
        if self._play.closed is None:
            play = self._play
            play.run(
                play.relay.receive(
                    SessionEnded(CloseReason.PROTOCOL_ERROR, "the agent broke it")
                )
            )

    def _check_ended(self) -> None:
        play = self._play
        if self._broken:
            return
        if (
            play.app.error is not None
            and "a framed window may have" in play.app.error[2]
        ):
            return  # what random numbers make of it
        if play.closed is not None or play.app.error is not None:
            raise FindingError(
                f"ended without having done anything: {play.closed}, {play.app.error}"
            )

    def _check_leftovers(self) -> None:
        play = self._play
        play.relay.compare()
        if play.closed is None:
            play.leave()
        if play.closed is None:
            raise FindingError("it left, and is not closed")
        self._check_quotas()
        if play.relay.client_labels:
            raise FindingError("the relay remembers a client that is gone")

    def _check_quotas(self) -> None:
        """Nothing is shown, nothing is pinned: nothing may be counted."""
        for name, used in self._play.relay.holdings().used.items():
            if used:
                raise FindingError(f"{used} of {name} are never given back")
