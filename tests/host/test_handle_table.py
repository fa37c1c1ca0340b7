import os
import resource

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from wlproxy.host.handle_table import (
    FDS_FOR_ALL_ELSE,
    HandleTable,
    fds_for_buffers,
    raise_fd_limit,
)
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.handles import Handle
from wlproxy.relay.quotas import MAX_FDS
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
    table = HandleTable()
    fd = new_fd()
    number = fd.fileno()
    table.add(1, Handle(2), fd)
    assert Handle(2) in table
    assert table.get(Handle(2)) is fd
    table.close(1, Handle(2))
    assert not is_open(number)
    assert len(table) == 0
    with pytest.raises(LocalProtocolError):
        table.get(Handle(2))


def test_table_refuses_a_handle_in_use() -> None:
    table = HandleTable()
    table.add(1, Handle(2), new_fd())
    with new_fd() as other, pytest.raises(LocalProtocolError):
        table.add(3, Handle(2), other)
    table.close_all()


def test_table_refuses_another_clients_handle() -> None:
    table = HandleTable()
    table.add(1, Handle(2), new_fd())
    with pytest.raises(LocalProtocolError):
        table.close(9, Handle(2))
    assert Handle(2) in table
    table.close_all()


def test_take_makes_the_fd_the_callers() -> None:
    table = HandleTable()
    table.add(1, Handle(2), new_fd())
    with table.take(1, Handle(2)) as fd:
        assert is_open(fd.fileno())
        assert Handle(2) not in table


def test_closing_a_client_leaves_the_others() -> None:
    table = HandleTable()
    for client_id, handle in ((1, 2), (1, 4), (2, 6)):
        table.add(client_id, Handle(handle), new_fd())
    table.close_client(1)
    table.close_client(1)
    assert list(table) == [Handle(6)]
    table.close_all()
    assert len(table) == 0


class Table(RuleBasedStateMachine):
    """A table never has a closed fd, and leaves none open."""

    def __init__(self) -> None:
        super().__init__()
        self.table = HandleTable()
        self.model: dict[Handle, tuple[int, int]] = {}
        self.gone: list[int] = []

    @rule(client_id=st.integers(1, 3), number=st.integers(1, 6))
    def add(self, client_id: int, number: int) -> None:
        handle = Handle(number)
        fd = new_fd()
        if handle in self.model:
            with fd, pytest.raises(LocalProtocolError):
                self.table.add(client_id, handle, fd)
        else:
            self.table.add(client_id, handle, fd)
            self.model[handle] = (client_id, fd.fileno())

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(sorted(self.model)))
        client_id, _ = self.model.pop(handle)
        self.table.close(client_id, handle)

    @rule(client_id=st.integers(1, 3))
    def close_client(self, client_id: int) -> None:
        self.table.close_client(client_id)
        self.model = {
            handle: (owner, fd)
            for handle, (owner, fd) in self.model.items()
            if owner != client_id
        }

    @invariant()
    def as_modelled(self) -> None:
        assert set(self.table) == set(self.model)
        for handle, (_, number) in self.model.items():
            assert self.table.get(handle).fileno() == number
            assert is_open(number)

    def teardown(self) -> None:
        self.table.close_all()


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=40, stateful_step_count=20)


def test_the_limit_is_the_highest_that_we_may_have() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[0]), before[1]))
    try:
        raise_fd_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("soft", "expected"),
    [
        (resource.RLIM_INFINITY, MAX_FDS),
        (524288, 524288 - FDS_FOR_ALL_ELSE),
        (1024, 512),
    ],
)
def test_fds_for_buffers_follow_the_limit(
    monkeypatch: pytest.MonkeyPatch, soft: int, expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, soft))

    assert fds_for_buffers() == expected
