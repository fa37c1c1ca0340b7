"""An app that reports whether its frames go on, and waits for whatever has to happen."""

import json
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from tests.chaos.places import Place
from tests.integration.harness import ClientError

SIZE: Final = 128
"""Width and height of an app's window."""

T = TypeVar("T")


class HungError(Exception):
    """Something did not happen in time."""


class App:
    """A pattern client: one that says whether its frames go on."""

    def __init__(self, place: Place, directory: str, name: str, watcher: int) -> None:
        self._place = place
        self._path = f"{directory}/{name}"
        self._watcher = watcher
        self.pid = int(self.call("pid", 30))

    def call(self, operation: str, timeout: float, **arguments: Any) -> Any:
        """Have it do something.

        Raises:
            ClientError: it could not, or is dead.
            TimeoutError: it does not answer.
        """
        line = json.dumps({"op": operation, **arguments}).encode() + b"\n"
        answer = json.loads(self._place.exchange(self._path, line, timeout))
        if "error" in answer:
            raise ClientError(*answer["error"])
        return answer["ok"]

    def animate(self, timeout: float) -> None:
        """Show a window, and frames in it from now on.

        Raises:
            ClientError: it could not, or is dead.
            TimeoutError: it does not answer.
        """
        stride = SIZE * 4
        shape = {"width": SIZE, "height": SIZE, "pool": "pool"}
        commands: list[dict[str, object]] = [
            {"op": "toplevel", "surface": "window", "fullscreen": False},
            {"op": "pool", "pool": "pool", "size": 2 * SIZE * stride},
            {"op": "buffer", "buffer": "b0", **shape},
            {"op": "buffer", "buffer": "b1", "offset": SIZE * stride, **shape},
            {"op": "animate", "surface": "window", "buffers": ["b0", "b1"]},
        ]
        commands[-1]["draw"] = False
        self.call("sequence", timeout, commands=commands)

    def frames(self, timeout: float = 10) -> int:
        """How many frames it has shown."""
        return int(self.call("animation", timeout, surface="window")["shown"])

    def shows(self, more: int, timeout: float) -> None:
        """Wait until it has shown so many frames more.

        Raises:
            ClientError: its connection has ended, or it is dead.
            HungError: it is connected, and shows nothing.
        """
        wanted = self.frames() + more

        def done() -> bool:
            if self.frames() >= wanted:
                return True
            self.call("connected", 10)
            return False

        eventually(done, f"an app's frame {wanted}", timeout)

    def kill(self) -> None:
        """Kill it, and who answers for it."""
        self._place.signal(-self._watcher, 9)


def eventually(look: Callable[[], T], what: str, timeout: float) -> T:
    """Look until something is truthy.

    Raises:
        HungError: it never was, in time.
    """
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise HungError(f"not within {timeout:.0f} s: {what}")
        time.sleep(0.02)
    return seen
