"""Tells `wlproxy status` of the screens, and `wlproxy reload` of the policy: on sockets beside those of `wlproxy run`, which need not be there."""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from wlproxy import __version__
from wlproxy.host.errors import HostError
from wlproxy.host.policy_keeper import PolicyKeeper, answer_at
from wlproxy.host.report.status_socket import Json, listen_screen, serve_screen
from wlproxy.host.runtime_dir import screen_policy_path
from wlproxy.host.status import SCHEMA
from wlproxy.screen.viewer import Viewer

LISTEN_AGAIN: Final = 0.5
"""Seconds until the next attempt, where another viewer has the place yet that this one takes."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where it all is.

    Attributes:
        name: of the VM.
        compositor: its socket.
        isolated: whether the compositor knows the windows as sandboxed.
    """

    name: str
    compositor: Path
    isolated: bool


async def report(path: Path, scene: Scene, viewers: Mapping[int, Viewer]) -> None:
    """Tell whoever asks, for as long as it runs.

    Args:
        path: of the socket.
        scene: what stays as it is.
        viewers: the windows that there are, by their screen's number.
    """
    began = time.monotonic()
    while True:
        with suppress(HostError, OSError):  # no reason to show no screen
            served = listen_screen(path)
            try:
                await serve_screen(
                    served, lambda: _document(scene, time.monotonic() - began, viewers)
                )
            finally:
                served.close()
        await trio.sleep(LISTEN_AGAIN)


async def answer_policy(path: Path, keeper: PolicyKeeper) -> None:
    """Answer whoever asks about the policy, for as long as it runs.

    Args:
        path: of the VM's status socket.
        keeper: answers.
    """
    while True:
        with suppress(HostError, OSError):
            await answer_at(screen_policy_path(path), keeper)
        await trio.sleep(LISTEN_AGAIN)


def _document(scene: Scene, uptime: float, viewers: Mapping[int, Viewer]) -> Json:
    return {
        "schema": SCHEMA,
        "version": __version__,
        "name": scene.name,
        "screen": {
            "version": __version__,
            "uptime": uptime,
            "compositor": str(scene.compositor),
            "isolated": scene.isolated,
            "surfaces": [_surface(*each) for each in sorted(viewers.items())],
        },
    }


def _surface(number: int, viewer: Viewer) -> Json:
    counts = viewer.counts
    return {
        "console": number,
        "title": viewer.title,
        "width": counts.width,
        "height": counts.height,
        "mode": counts.mode or "none",
        "reason": viewer.picture.reason,
        "hidden": viewer.hidden,
        "frames": viewer.window.frames,
        "updates": counts.updates,
        "bytes_copied": counts.copied,
    }
