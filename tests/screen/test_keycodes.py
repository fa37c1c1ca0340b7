import pytest

from wlproxy.screen.keycodes import qemu_key


@pytest.mark.parametrize(
    ("evdev", "number"),
    [
        (1, 1),  # Escape
        (30, 30),  # A
        (88, 0x58),  # F12
        (85, 0x76),
        (97, 0x9D),  # right Ctrl: e0 1d
        (103, 0xC8),  # Up: e0 48
        (125, 0xDB),  # left Super: e0 5b
        (0, None),
        (84, None),
        (0x1FF, None),
    ],
)
def test_numbers(evdev: int, number: int | None) -> None:
    assert qemu_key(evdev) == number


def test_each_key_has_a_number_of_its_own() -> None:
    numbers = [number for each in range(256) if (number := qemu_key(each)) is not None]
    assert len(set(numbers)) == len(numbers)
    assert all(0 < number < 256 for number in numbers)
