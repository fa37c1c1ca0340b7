import pytest

from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.protocol.wayland.message import Message, NewId

BIND = NewId(b"wl_shm", 1, 9)
MESSAGE: Message[str] = Message(3, 0, (7, b"text", None, BIND), ("fd",))


def test_arguments_by_type() -> None:
    assert MESSAGE.integer(0) == 7
    assert MESSAGE.string(1) == b"text"
    assert MESSAGE.string(2) is None
    assert MESSAGE.array(1) == b"text"
    assert MESSAGE.new_id(3) == BIND


@pytest.mark.parametrize(
    ("accessor", "index"),
    [("integer", 1), ("string", 0), ("string", 3), ("array", 2), ("new_id", 0)],
)
def test_asking_for_another_type_is_our_mistake(accessor: str, index: int) -> None:
    with pytest.raises(LocalProtocolError):
        getattr(MESSAGE, accessor)(index)
