"""The fds behind a client's handles: lent, taken, closed once."""

import fcntl
import mmap
import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from wlproxy.host.client.handles import Handles, sealed_file
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.handles import Handle
from wlproxy.transport.fds import OwnedFd


def new_fd() -> OwnedFd:
    return OwnedFd(os.memfd_create("test", os.MFD_CLOEXEC))


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_table_lends_and_closes() -> None:
    table = Handles()
    fd = new_fd()
    number = fd.fileno()
    table.add(Handle(2), fd)
    assert Handle(2) in table
    assert table.get(Handle(2)) is fd
    table.close(Handle(2))
    assert not is_open(number)
    assert len(table) == 0
    with pytest.raises(LocalProtocolError):
        table.get(Handle(2))
    with pytest.raises(LocalProtocolError):
        table.close(Handle(2))


def test_table_refuses_a_handle_in_use() -> None:
    table = Handles()
    table.add(Handle(2), new_fd())
    with new_fd() as other, pytest.raises(LocalProtocolError):
        table.add(Handle(2), other)
    table.close_all()


def test_table_has_no_other_clients_handle() -> None:
    table, others = Handles(), Handles()
    table.add(Handle(2), new_fd())
    with pytest.raises(LocalProtocolError):
        others.take(Handle(2))
    assert Handle(2) in table
    table.close_all()


def test_take_makes_the_fd_the_callers() -> None:
    table = Handles()
    table.add(Handle(2), new_fd())
    with table.take(Handle(2)) as fd:
        assert is_open(fd.fileno())
        assert Handle(2) not in table


def test_closing_a_client_leaves_the_others() -> None:
    table, others = Handles(), Handles()
    table.add(Handle(2), new_fd())
    table.add(Handle(4), new_fd())
    others.add(Handle(6), new_fd())
    table.close_all()
    table.close_all()
    assert (list(table), list(others)) == ([], [Handle(6)])
    others.close_all()
    assert len(others) == 0


class Table(RuleBasedStateMachine):
    """A table never has a closed fd, and leaves none open."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Handles()
        self.model: dict[Handle, int] = {}

    @rule(number=st.integers(1, 6))
    def add(self, number: int) -> None:
        handle = Handle(number)
        fd = new_fd()
        if handle in self.model:
            with fd, pytest.raises(LocalProtocolError):
                self.table.add(handle, fd)
        else:
            self.table.add(handle, fd)
            self.model[handle] = fd.fileno()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(sorted(self.model)))
        number = self.model.pop(handle)
        self.table.close(handle)
        assert not is_open(number)

    @rule()
    def close_all(self) -> None:
        self.table.close_all()
        assert not any(map(is_open, self.model.values()))
        self.model.clear()

    @invariant()
    def as_modelled(self) -> None:
        assert set(self.table) == set(self.model)
        for handle, number in self.model.items():
            assert self.table.get(handle).fileno() == number
            assert is_open(number)

    def teardown(self) -> None:
        self.table.close_all()


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=40, stateful_step_count=20)


def test_a_picture_of_ours_cannot_shrink_under_a_compositor() -> None:
    contents = b"pixels" * 3000
    with sealed_file(contents) as fd:
        number = fd.fileno()
        with pytest.raises(PermissionError):
            os.ftruncate(number, 1)
        assert not fcntl.fcntl(number, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
        with mmap.mmap(number, 0) as mapped:  # as libwayland does, for both
            assert mapped[:] == contents
