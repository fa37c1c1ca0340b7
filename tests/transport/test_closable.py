"""A `with` block closes what it has, whatever happens in it."""

import pytest

from wlproxy.transport.closable import Closing, closed_on_error


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


def test_what_succeeds_stays_open() -> None:
    door = Door()
    with closed_on_error(door):
        pass
    assert door.times == []


def test_what_fails_closes_all_it_had_made() -> None:
    doors = Door(), Door()
    with pytest.raises(KeyError), closed_on_error(*doors):
        raise KeyError
    assert [door.times for door in doors] == [["closed"]] * 2


def test_close_is_not_forgotten() -> None:
    with pytest.raises(NotImplementedError), Closing():
        pass
