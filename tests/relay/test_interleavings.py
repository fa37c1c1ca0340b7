"""Random transcripts: an app that keeps the rules is never told that it broke one.

And whatever it does in whatever order, with whatever answers outstanding, nothing is
left behind when it has destroyed everything, and nothing is sent to the compositor that
libwayland-server would refuse.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.relay.dmabufs import NV12, VIDEO, XRGB, DmabufStage
from tests.relay.playbook import NOTHING, ONCE, ONLY_SHM
from tests.relay.things import Thing
from wlproxy.relay.commands import CreateUdmabuf

index = st.integers(0, 5)


class Transcript(RuleBasedStateMachine):
    """An app with a few surfaces and buffers; agent, shell and compositor may be slow."""

    @initialize(
        capabilities=st.sampled_from([VIDEO, VIDEO, ONLY_SHM, ONCE, ONCE, NOTHING]),
        imports=st.sampled_from(["accept", "hold", "refuse"]),
        fails=st.booleans(),
    )
    def start(self, capabilities: object, imports: str, *, fails: bool) -> None:
        known = next(c for c in (VIDEO, ONLY_SHM, ONCE, NOTHING) if c is capabilities)
        self.play = DmabufStage(known)
        self.once = known is ONCE
        self.formats = [XRGB, NV12] if known is VIDEO else [XRGB]
        self.play.host.imports = imports
        self.play.create_fails = {CreateUdmabuf} if fails else set()
        self.surfaces = [self.play.surface]
        self.attached: dict[Thing, Thing | None] = {}
        self.buffers: list[Thing] = []
        self.pools: list[Thing] = []
        self.params: list[Thing] = []

    @rule()
    def create_pool(self) -> None:
        if len(self.pools) < 3:
            self.pools.append(self.play.pool(self.play.shm, 9216))

    @precondition(lambda self: self.pools)
    @rule(which=index, offset=st.sampled_from([0, 256, 4096, 5000]))
    def create_buffer(self, which: int, offset: int) -> None:
        pool = self.pools[which % len(self.pools)]
        if len(self.buffers) < 6:
            self.buffers.append(self.play.buffer(pool, offset, 16, 16, 256))

    @rule(which=index, keeps=st.booleans())
    def create_immed(self, which: int, *, keeps: bool) -> None:
        if len(self.buffers) >= 6:
            return
        fmt = self.formats[which % len(self.formats)]
        params = self.play.params(self.play.parts((16, 16), fmt))
        self.buffers.append(
            self.play.app.request(params, "create_immed", 16, 16, fmt, 0)
        )
        self.finish(params, keeps=keeps)

    @rule(which=index, keeps=st.booleans())
    def create(self, which: int, *, keeps: bool) -> None:
        if len(self.params) >= 3:
            return
        fmt = self.formats[which % len(self.formats)]
        params = self.play.params(self.play.parts((16, 16), fmt))
        self.play.app.request(params, "create", 16, 16, fmt, 0)
        self.finish(params, keeps=keeps)

    def finish(self, params: Thing, *, keeps: bool) -> None:
        if keeps:
            self.params.append(params)
        else:
            self.play.app.request(params, "destroy")

    @precondition(lambda self: self.params)
    @rule(which=index)
    def destroy_params(self, which: int) -> None:
        params = self.params.pop(which % len(self.params))
        self.play.app.request(params, "destroy")

    @invariant()
    def take_created(self) -> None:
        if hasattr(self, "play"):
            self.buffers += self.play.app.created
            self.play.app.created.clear()

    @precondition(lambda self: self.pools)
    @rule(which=index)
    def destroy_pool(self, which: int) -> None:
        self.play.app.request(self.pools.pop(which % len(self.pools)), "destroy")

    @rule()
    def create_surface(self) -> None:
        if len(self.surfaces) < 3:
            self.surfaces.append(self.play.new_surface())

    @precondition(lambda self: self.surfaces)
    @rule(which=index, number=index)
    def attach(self, which: int, number: int) -> None:
        surface = self.surfaces[which % len(self.surfaces)]
        buffer = self.buffers[number % len(self.buffers)] if self.buffers else None
        self.attached[surface] = buffer
        target = buffer.id if buffer is not None else 0
        self.play.app.request(surface, "attach", target, 0, 0)

    @precondition(lambda self: self.pools and self.surfaces)
    @rule(which=index)
    def show_twins(self, which: int) -> None:
        """Show two buffers of the same pages, one after the other."""
        if len(self.buffers) > 4:
            return
        for _ in range(2):
            self.create_buffer(which, 4096)
            self.attach(which, len(self.buffers) - 1)
            self.commit(which, frame=False)

    @precondition(lambda self: self.surfaces)
    @rule(which=index, frame=st.booleans())
    def commit(self, which: int, *, frame: bool) -> None:
        surface = self.surfaces[which % len(self.surfaces)]
        self.play.app.request(surface, "damage_buffer", 0, 0, 9, 9)
        if frame and surface not in self.attached:
            self.play.app.request(self.play.app.display, "sync")
        self.attached.pop(surface, None)
        self.play.app.request(surface, "commit")

    @precondition(lambda self: self.buffers)
    @rule(which=index)
    def destroy_buffer(self, which: int) -> None:
        buffer = self.buffers.pop(which % len(self.buffers))
        if buffer in self.attached.values():  # what is pending then is undefined
            for surface in [s for s, b in self.attached.items() if b is buffer]:
                self.play.app.request(surface, "attach", 0, 0, 0)
                self.attached[surface] = None
        self.play.app.request(buffer, "destroy")

    @precondition(lambda self: self.surfaces)
    @rule(which=index)
    def destroy_surface(self, which: int) -> None:
        surface = self.surfaces.pop(which % len(self.surfaces))
        self.attached.pop(surface, None)
        self.play.app.request(surface, "destroy")

    @rule(
        slow=st.sampled_from(["locate", "create", "deliver", "sync", "release", "none"])
    )
    def become_slow(self, slow: str) -> None:
        self.play.holds_locate = slow == "locate"
        self.play.holds_create = slow == "create"
        self.play.deliver = slow != "deliver"
        self.play.host.answers_sync = slow != "sync"
        self.play.host.releases = slow != "release"
        self.catch_up()

    def catch_up(self) -> None:
        play = self.play
        for _ in range(200):
            if play.locates and play.holds_locate is False:
                play.answer_locate()
            elif play.creates and play.holds_create is False:
                play.answer_create()
            elif play.host.waiting and play.host.answers_sync:
                play.host.answer()
                play.run([])
            elif play.host.out and play.deliver:
                play.run([])
            else:
                return

    @invariant()
    def nobody_complains(self) -> None:
        if hasattr(self, "play"):
            assert self.play.app.error is None
            assert self.play.closed is None

    @invariant()
    def no_fd_is_in_two_pools(self) -> None:
        if hasattr(self, "play") and self.once:
            fds = [
                thing.facts["fd"]
                for thing in self.play.host.things.values()
                if thing.interface.name == "wl_buffer"
            ]
            assert len(set(fds)) == len(fds)

    def teardown(self) -> None:
        if not hasattr(self, "play"):
            return
        self.become_slow("none")
        self.catch_up()
        self.take_created()
        for things in (self.params, self.buffers, self.pools, self.surfaces):
            for thing in things:
                self.play.app.request(thing, "destroy")
                self.catch_up()
        self.play.nothing_left()
        everything = self.play.relay.holdings()
        left = everything.clients[1]
        assert set(left.guest_objects) == {
            *("wl_display", "wl_registry", "wl_shm", "wl_compositor"),
            "zwp_linux_dmabuf_v1",
        }
        assert not left.buffers
        assert not left.stalled
        counts = (left.creating, left.surfaces, left.memories, left.locations)
        assert counts == (0, 0, 0, 0)
        assert not left.handles
        assert not any(left.used.values())
        assert not any(everything.used.values())


TestTranscript = Transcript.TestCase
TestTranscript.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
