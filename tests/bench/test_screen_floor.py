import pytest

from bench import screen_floor
from bench.floor import WAYS


@pytest.mark.parametrize("name", WAYS)
def test_an_update_takes_some_time(name: str) -> None:
    assert 0 < screen_floor.measure(WAYS[name], 3) < 1
