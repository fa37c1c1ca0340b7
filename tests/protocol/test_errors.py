"""The exception tree: what a shell's `except` catches."""

import pytest

from wlproxy.protocol import errors


@pytest.mark.parametrize("broken", [errors.ChannelError, errors.WaylandError])
def test_peers_errors_are_caught_together(broken: type[Exception]) -> None:
    assert issubclass(broken, errors.RemoteProtocolError)
    assert issubclass(broken, errors.WlproxyError)


def test_our_own_bug_is_not_caught_with_a_peers_error() -> None:
    assert issubclass(errors.LocalProtocolError, errors.WlproxyError)
    assert not issubclass(errors.LocalProtocolError, errors.RemoteProtocolError)


def test_wayland_error_carries_what_the_client_is_told() -> None:
    error = errors.WaylandError(7, 2, "wl_shm.create_pool: size -1")
    assert (error.object_id, error.code) == (7, 2)
    assert error.message == "wl_shm.create_pool: size -1"
    assert str(error) == "object 7, error 2: wl_shm.create_pool: size -1"
