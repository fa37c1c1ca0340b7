import os
import resource
import socket
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.transport.fds import FdState, OwnedFd, raise_fd_limit, receive_fds


def new_fd() -> OwnedFd:
    return OwnedFd(os.memfd_create("test", os.MFD_CLOEXEC))


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_closes_once() -> None:
    fd = new_fd()
    number = fd.fileno()
    fd.close()
    assert not is_open(number)
    reused = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    fd.close()  # not somebody else's fd of the same number
    assert is_open(reused)
    os.close(reused)
    assert fd.state is FdState.CLOSED
    with pytest.raises(LocalProtocolError):
        fd.fileno()


def test_context_manager_closes() -> None:
    with new_fd() as fd:
        number = fd.fileno()
    assert not is_open(number)


def test_detach_gives_up_ownership() -> None:
    fd = new_fd()
    number = fd.detach()
    fd.close()
    assert is_open(number)
    os.close(number)
    with pytest.raises(LocalProtocolError):
        fd.detach()


def test_close_waits_for_every_hold() -> None:
    fd = new_fd().hold().hold()
    number = fd.fileno()
    fd.close()
    assert fd.state is FdState.CLOSING
    assert fd.fileno() == number  # still to be sent
    fd.release()
    assert is_open(number)
    fd.release()
    assert not is_open(number)


def test_a_hold_alone_does_not_close() -> None:
    with new_fd() as fd:
        fd.hold().release()
        assert is_open(fd.fileno())


def test_misuse_is_a_bug_of_ours() -> None:
    with pytest.raises(LocalProtocolError):
        OwnedFd(-1)
    fd = new_fd()
    with pytest.raises(LocalProtocolError):
        fd.release()
    fd.hold()
    with pytest.raises(LocalProtocolError):
        fd.detach()
    fd.release()
    fd.close()
    with pytest.raises(LocalProtocolError):
        fd.hold()


def test_dropped_open_warns_and_closes() -> None:
    fd = new_fd()
    number = fd.fileno()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del fd
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert not is_open(number)


@given(st.lists(st.sampled_from(["hold", "release", "close"]), max_size=12))
def test_open_exactly_until_closed_and_released(actions: list[str]) -> None:
    fd = new_fd()
    number = fd.fileno()
    holds, closed = 0, False
    for action in [*actions, "close"]:
        if action == "hold" and not closed:
            fd.hold()
            holds += 1
        elif action == "release" and holds:
            fd.release()
            holds -= 1
        elif action == "close":
            fd.close()
            closed = True
        assert is_open(number) == (not closed or holds > 0)
    for _ in range(holds):
        fd.release()
    assert not is_open(number)


def test_a_duplicate_is_of_the_same_file_and_another_fd() -> None:
    fd = new_fd()
    other = fd.duplicate()
    with fd:
        os.write(fd.fileno(), b"text")
    assert os.pread(other.fileno(), 10, 0) == b"text"
    assert not os.get_inheritable(other.fileno())
    other.close()
    with pytest.raises(LocalProtocolError):
        other.duplicate()


def test_whoever_made_it_says_how_it_is_closed() -> None:
    asked: list[int] = []
    number = os.memfd_create("test", os.MFD_CLOEXEC)
    fd = OwnedFd(number, asked.append)
    copy = fd.duplicate()
    numbers = [number, copy.fileno()]
    fd.hold()
    fd.close()
    assert asked == []
    fd.release()
    fd.close()
    copy.close()
    assert asked == numbers
    assert all(map(is_open, numbers))
    for each in numbers:
        OwnedFd(each).close()


def test_the_limit_is_the_highest_that_we_may_have() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[0]), before[1]))
    try:
        raise_fd_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_fds_that_are_received_are_closed_on_exec() -> None:
    """Which CPython 3.11's socket.recv_fds() loses."""
    sending, receiving = socket.socketpair()
    with sending, receiving, open(os.devnull, "rb") as file:
        socket.send_fds(sending, [b"two"], [file.fileno()] * 2)
        data, fds, flags = receive_fds(receiving, 100, 2)
        assert (data, len(fds), flags & socket.MSG_CTRUNC) == (b"two", 2, 0)
        for fd in fds:
            assert not os.get_inheritable(fd.fileno())
            assert os.fstat(fd.fileno()).st_rdev == os.fstat(file.fileno()).st_rdev
            fd.close()


def test_there_is_no_room_for_more_fds_than_were_asked_for() -> None:
    sending, receiving = socket.socketpair()
    with sending, receiving, open(os.devnull, "rb") as file:
        socket.send_fds(sending, [b"four"], [file.fileno()] * 4)
        _, fds, flags = receive_fds(receiving, 100, 2)
        assert len(fds) == 2
        assert flags & socket.MSG_CTRUNC
        for fd in fds:
            fd.close()
