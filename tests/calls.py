"""Counts the calls of our own functions: the same number on every machine, each time."""

import sys
from pathlib import Path
from types import FrameType
from typing import Self

ROOT = Path(__file__).parents[1]


class Calls:
    """Counts the calls of functions in the files of both ends, while its block lasts.

    A generator that goes on is called once more.

    Attributes:
        count: how many there were.
    """

    def __init__(self) -> None:
        self.count = 0
        self._ours = (f"{ROOT}/wlproxy/", f"{ROOT}/guest-agent/")

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(self._ours):
            self.count += 1
