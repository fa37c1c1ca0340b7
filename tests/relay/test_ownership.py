"""What a clipboard manager of the guest sets: when the host hears of it, and what is set then."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.relay.filters.test_selections import (
    ASK,
    BOTH,
    CONTROL,
    CONTROLLED,
    MARK,
    OFF,
    TO_GUEST,
    Desk,
    heard,
    managed,
)
from tests.relay.things import Thing
from wlproxy.relay.inputs import PolicyChanged, TimerEnded
from wlproxy.relay.ownership import MARKS, MAX_IN_A_ROW, mark, read_mark
from wlproxy.relay.policy_tree import (
    Clipboard,
    Direction,
    Globals,
    Managers,
    Policy,
    Primary,
)

KINDS = (CONTROL, "zwlr_data_control")
TEXT = b"text/plain"
OTHER = MARKS + b"other"
USED_SOURCE = INVALID_OFFER = 1
EVERY = managed(
    clipboard=Clipboard(managers=Managers.ALL), primary=Primary(managers=Managers.ALL)
)


class Manager(Desk):
    """A clipboard manager with a window."""

    def __init__(self, policy: Policy | None = None, kind: str = CONTROL) -> None:
        super().__init__(policy or managed(), kind)
        self.says = None

    def begin(self, source: Thing | None, use: str = "selection") -> None:
        """Have it set a source, or nothing."""
        self.said()
        self.app.request(self.device, f"set_{use}", source.id if source else 0)

    def set(self, use: str = "selection", *types: bytes) -> bool:
        """The same of a new source; say whether the host hears of it, and check what each is told."""
        source = self.source(*types)
        self.begin(source, use)
        return self.outcome(source, use)

    def clear(self, use: str = "selection") -> bool:
        """Have it take back what there is; say whether the host hears of it."""
        self.begin(None, use)
        return self.outcome(None, use)

    def outcome(self, source: Thing | None, use: str = "selection") -> bool:
        said = [line for line in self.said() if ".sync(" not in line]
        if heard(said, f"set_{use}"):
            assert f"app: {source}.cancelled()" not in said
            return True
        told = [] if source is None else [f"app: {source}.cancelled()"]
        assert said == told
        return False

    def lose(self, use: str = "selection") -> None:
        """Have the compositor say that nothing is selected any more."""
        self.host.event(self.host_device, use, 0)
        self.flush()

    def obey(self, policy: Policy) -> None:
        self.run(self.relay.receive(PolicyChanged(policy)))

    @property
    def error(self) -> tuple[str, int]:
        assert self.app.error is not None
        culprit, code, _ = self.app.error
        return self.app.things[culprit].interface.name, code

    def marks(self) -> list[str]:
        """The marks that the host is told of a new source."""
        self.begin(self.source())
        lines = [line for line in self.said_by("host") if MARKS.decode() in line]
        return [line.split("'")[1] for line in lines]


@pytest.mark.parametrize("use", ["selection", "primary_selection"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_manager_replaces_what_the_vm_has_copied(kind: str, use: str) -> None:
    play = Manager(kind=kind)
    play.offered(TEXT, MARK, event=use)
    assert play.set(use)
    play.offered(TEXT, mark("vm", 1), event=use)
    assert play.set(use)
    assert play.clear(use)


@pytest.mark.parametrize("use", ["selection", "primary_selection"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("types", [(TEXT,), (TEXT, OTHER), (TEXT, MARK + b"x"), ()])
def test_a_manager_replaces_nothing_of_another_ones(
    kind: str, use: str, types: tuple[bytes, ...]
) -> None:
    """The host's user's, another VM's, or of nobody that it was told of."""
    play = Manager(kind=kind)
    play.offered(TEXT, MARK, event=use)
    if types:
        play.offered(*types, event=use)
    else:
        play = Manager(kind=kind)
        play.lose(use)
    assert not play.set(use, TEXT, b"text/html")
    assert not play.clear(use)
    assert play.closed is None


def test_a_manager_keeps_what_an_app_had_copied_that_has_ended() -> None:
    play = Manager()
    play.offered(TEXT, MARK)
    play.lose()
    assert not play.clear()  # what is gone
    assert play.set()

    play.offered()
    play.lose()
    assert not play.set()


def test_an_old_manager_has_no_primary_selection() -> None:
    play = Manager()
    manager = play.plug("zwlr_data_control_manager_v1", 1)
    play.device = play.app.request(manager, "get_data_device", play.seat.id)
    play.host_device = play.host_thing("zwlr_data_control_device_v1")
    play.manager = manager
    play.offered(TEXT, MARK)
    assert play.set()
    play.offered()
    assert not play.set()


def test_the_clipboard_is_one_thing_and_the_primary_selection_another() -> None:
    play = Manager()
    play.offered(TEXT, MARK)
    play.offered(event="primary_selection")
    assert play.set()
    assert not play.set("primary_selection")

    play.obey(managed(primary=Primary(managers=Managers.ALL)))
    assert play.set("primary_selection")


# ---------------------------------------------------------------- gestures


@pytest.mark.parametrize("use", ["selection", "primary_selection"])
def test_what_the_user_picks_is_set(use: str) -> None:
    play = Manager()
    play.offered(event=use)
    assert not play.set(use)
    play.press()
    assert play.set(use)
    assert play.clear(use)

    play.run(play.relay.receive(TimerEnded(1, play.timers[-1].number)))
    assert not play.set(use)


def test_a_gesture_is_over_when_the_user_is_elsewhere() -> None:
    play = Manager()
    play.offered()
    play.press()
    play.focus(None)
    assert not play.set()


def test_what_a_gesture_sets_is_as_good_as_a_copy() -> None:
    play = Manager()
    play.offered(TEXT, mark("vm", 7))
    assert play.marks() == [mark("vm", 8).decode()]
    play.press()
    assert play.marks() == [MARK.decode()]


# ---------------------------------------------------------------- races


def test_a_set_waits_for_what_the_compositor_has_to_say() -> None:
    """It is a moment ago that the VM's own was in force."""
    play = Manager()
    play.offered(TEXT, MARK)
    source = play.source()
    play.host.answers_sync = False
    play.begin(source)
    assert play.said_by("host")[-1].startswith("wl_display@1.sync(")

    play.offered()
    play.said()
    play.host.answer()
    play.flush()
    assert not play.outcome(source)


def test_a_set_before_anything_was_told_of() -> None:
    play = Manager()
    source = play.source()
    play.host.answers_sync = False
    play.begin(source)
    play.offered(TEXT, MARK)
    play.said()
    play.host.answer()
    play.flush()
    assert play.outcome(source)


@pytest.mark.parametrize("gesture", [False, True])
def test_each_set_waits_anew(gesture: bool) -> None:
    """Also after one that the user had asked for."""
    play = Manager()
    play.offered(TEXT, MARK)
    if gesture:
        play.press()
    assert play.set()
    if gesture:
        play.run(play.relay.receive(TimerEnded(1, play.timers[-1].number)))
    first, second = play.source(), play.source()
    play.host.answers_sync = False
    play.begin(first)
    play.app.request(play.device, "set_selection", second.id)
    play.host.answer()
    play.flush()
    assert heard(play.said(), "set_selection")

    play.offered()
    play.said()
    play.host.answer()
    play.flush()
    assert not play.outcome(second)


def test_who_leaves_does_not_wait() -> None:
    play = Manager()
    play.host.answers_sync = False
    play.begin(play.source())
    play.leave()
    assert not play.relay.holdings().clients


def test_policy_may_change_meanwhile() -> None:
    play = Manager()
    source = play.source()
    play.host.answers_sync = False
    play.begin(source)
    play.obey(EVERY)
    play.host.answer()
    play.flush()
    assert play.outcome(source)


def test_two_managers_of_one_app_are_told_apart() -> None:
    play = Manager()
    first = play.device, play.host_device
    play.offered(TEXT, MARK)
    play.device = play.app.request(play.manager, "get_data_device", play.seat.id)
    play.host_device = play.host_thing("ext_data_control_device_v1", 1)
    assert not play.set()  # it was told of nothing

    play.offered()
    play.device, play.host_device = first
    assert play.set()  # as far as it was told
    play.offered()
    assert not play.set()


def test_sets_without_a_pause_have_an_end() -> None:
    """Each could be the one that comes just after the host's user has copied."""
    play = Manager()
    play.offered(TEXT, MARK)
    for count in range(1, MAX_IN_A_ROW + 1):
        assert play.marks() == [mark("vm", count).decode()]
        play.offered(TEXT, mark("vm", count))
    assert not play.set()
    play.lose()
    assert not play.set()

    play.offered(TEXT, MARK)  # an app copies
    assert play.set()


# ---------------------------------------------------------------- what is no such source


def test_a_source_is_set_once() -> None:
    play = Manager()
    play.offered(TEXT, MARK)
    source = play.source()
    play.begin(source)
    assert play.outcome(source)
    play.offered()

    play.begin(source, "primary_selection")

    assert play.error == ("ext_data_control_device_v1", USED_SOURCE)
    assert not heard(play.said(), "set_primary_selection")


@pytest.mark.parametrize("gesture", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_was_cancelled_is_not_set_again(kind: str, gesture: bool) -> None:
    play = Manager(kind=kind)
    play.offered()
    source = play.source()
    play.begin(source)
    assert not play.outcome(source)
    if gesture:
        play.press()

    play.begin(source)

    assert play.error == (f"{kind}_device_v1", USED_SOURCE)
    assert not heard(play.said(), "set_selection")


def test_a_source_that_was_cancelled_has_no_more_types() -> None:
    play = Manager()
    play.offered()
    source = play.source()
    play.begin(source)

    play.app.request(source, "offer", b"text/html")

    assert play.error == ("ext_data_control_source_v1", INVALID_OFFER)


def test_a_source_that_was_cancelled_is_destroyed() -> None:
    play = Manager()
    play.offered()
    source = play.source()
    play.begin(source)
    play.app.request(source, "destroy")
    assert heard(play.said(), "destroy")
    assert play.set() is False
    assert play.closed is None


@pytest.mark.parametrize("policy", [managed(), EVERY])
def test_what_is_no_source_is_not_set(policy: Policy) -> None:
    play = Manager(policy)
    play.begin(play.surface)
    assert play.error == ("ext_data_control_device_v1", 0)
    assert not heard(play.said(), "set_selection")


# ---------------------------------------------------------------- other policies


def test_every_selection_may_be_replaced_where_policy_says_so() -> None:
    play = Manager(EVERY)
    assert play.set()
    play.offered()
    assert play.clear()
    assert not play.marks()


def test_a_policy_that_is_another_and_the_same_again() -> None:
    play = Manager()
    play.offered()
    assert not play.set()
    play.obey(EVERY)
    assert play.set()
    play.offered(TEXT)  # set just now: it has no mark
    play.obey(managed())
    assert not play.set()
    play.offered(TEXT, MARK)
    assert play.set()


def test_who_may_not_have_data_control_any_more_has_no_more_by_that() -> None:
    play = Manager()
    play.offered()
    play.obey(Policy(Globals()))
    assert not play.set()
    play.press()
    assert not play.set()


@pytest.mark.parametrize("direction", [TO_GUEST, OFF])
def test_the_direction_binds_as_it_does_all_apps(direction: Direction) -> None:
    play = Manager(managed(clipboard=Clipboard(direction)))
    play.offered(TEXT, MARK)
    play.press()
    play.begin(play.source())
    said = play.said()
    assert not heard(said, "set_selection")
    assert not heard(said, "offer")


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("says", [False, True])
def test_where_the_user_is_asked_their_word_counts(says: bool, own: bool) -> None:
    play = Manager(managed(clipboard=Clipboard(ASK)))
    play.offered(TEXT, *([MARK] if own else []))
    play.begin(play.source())
    assert "user: text/plain?" in play.said()
    assert heard(play.reply(says), "set_selection") is says


def test_a_question_that_is_open_is_about_what_is_older() -> None:
    ask = managed(clipboard=Clipboard(ASK))
    play = Manager(ask)
    play.offered()
    play.begin(play.source())
    play.obey(replace(ask, clipboard=Clipboard(BOTH)))
    play.begin(play.source())
    assert "user: never mind" in play.said()
    assert play.reply(True) == []


def test_an_app_copies_as_ever() -> None:
    play = Desk(Policy(CONTROLLED))
    play.offered()
    play.app.request(play.device, "set_selection", play.source().id, 1)
    assert heard(play.said(), "set_selection")


# ---------------------------------------------------------------- marks


@given(st.text("abcXYZ09_-", min_size=1), st.integers(0, MAX_IN_A_ROW))
def test_a_mark_is_read_as_it_was_made(vm_name: str, count: int) -> None:
    assert read_mark(vm_name, mark(vm_name, count)) == count
    assert read_mark(vm_name + "x", mark(vm_name, count)) is None


@given(st.binary(max_size=8))
def test_what_is_no_mark(end: bytes) -> None:
    count = read_mark("vm", MARK + end)
    digits = end[1:]
    if not end:
        assert count == 0
    elif end[:1] == b"." and digits.isdigit() and len(digits) <= 2:
        assert count == int(digits)
    else:
        assert count is None
