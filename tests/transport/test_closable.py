"""A `with` block closes what it has, whatever happens in it."""

import pytest

from wlproxy.transport.closable import Closing


class Door(Closing):
    def __init__(self) -> None:
        self.times: list[str] = []

    def close(self) -> None:
        self.times.append("closed")


def test_it_is_closed_at_the_end() -> None:
    with Door() as door:
        assert door.times == []
    assert door.times == ["closed"]


def test_it_is_closed_though_the_block_fails_and_hides_no_error() -> None:
    door = Door()
    with pytest.raises(KeyError), door:
        raise KeyError
    assert door.times == ["closed"]


def test_close_is_not_forgotten() -> None:
    with pytest.raises(NotImplementedError), Closing():
        pass
