"""What the proxy is doing now, for `wlproxy status`, for systemd, and for whoever waits for it.

Not here: why a session ended (the log), and what the windows do (`snapshot`).
"""

from enum import Enum
from pathlib import Path

import trio

from wlproxy.host.channel_address import ChannelAddress, advise
from wlproxy.host.report.vm_log import VmLog
from wlproxy.transport.notify import notify

HINT_SECONDS = 15.0
"""Seconds of waiting after which the log says what to look at."""


class State(Enum):
    """What the proxy is doing."""

    STARTING = "starting"
    WAITING_FOR_QEMU = "waiting for QEMU"
    WAITING_FOR_AGENT = "waiting for the guest agent"
    PROVING_RAM = "proving the guest's RAM"
    SERVING = "serving"
    WAITING_FOR_COMPOSITOR = "waiting for the compositor"
    PAUSING = "pausing before the next session"
    STOPPING = "stopping"


class Progress:
    """The state of one proxy."""

    def __init__(self, channel: ChannelAddress, compositor: Path) -> None:
        """Begin in the state of starting.

        Args:
            channel: where it is, for the hints.
            compositor: its socket, likewise.
        """
        self._state = State.STARTING
        self._compositor_away = False
        self._changed = trio.Event()
        self._hints = {
            State.WAITING_FOR_QEMU: advise(channel),
            State.WAITING_FOR_AGENT: "no agent answers. Does it run in the guest "
            "(`systemctl status wlproxy-guest-agent` there)? QEMU talks to one program "
            f"at a time: does another one hold {channel}?",
            State.WAITING_FOR_COMPOSITOR: f"nobody listens at {compositor}. Apps that "
            "are started meanwhile wait, for some seconds.",
        }

    @property
    def state(self) -> State:
        """What the proxy is doing; without a compositor it serves nobody."""
        if self._state is State.SERVING and self._compositor_away:
            return State.WAITING_FOR_COMPOSITOR
        return self._state

    @property
    def hint(self) -> str:
        """What to look at if this lasts; may be empty."""
        return self._hints.get(self.state, "")

    def enter(self, state: State) -> None:
        """Note that the proxy does something else from now on."""
        before, self._state = self.state, state
        self._tell_unless(before)

    def set_compositor(self, *, there: bool) -> None:
        """Note whether the compositor is there."""
        before, self._compositor_away = self.state, not there
        self._tell_unless(before)

    async def watch(self, log: VmLog) -> None:
        """Log what to look at, once for each long wait."""
        while True:
            state, changed = self.state, self._changed
            with trio.move_on_after(HINT_SECONDS):
                await changed.wait()
            if not changed.is_set() and self.hint:
                log.info("still %s: %s", state.value, self.hint)
            await changed.wait()

    def _tell_unless(self, before: State) -> None:
        """Report the state, unless it has not changed."""
        if self.state is before:
            return
        self._changed.set()
        self._changed = trio.Event()
        stopping = ("STOPPING=1",) if self._state is State.STOPPING else ()
        notify(f"STATUS={self.state.value}", *stopping)
