"""Who is measured when, and what is made of a round."""

from bench.measuring import ADDED, P50
from bench.note import FIELDS, Note
from bench.peers import Peer
from bench.rounds import NAMES, QUICK, add_differences, rotated
from bench.seats import on_seat
from bench.workloads import WORKLOADS


def test_each_round_begins_with_another_peer() -> None:
    found = [Peer(name, "", 0) for name in "abc"]
    orders = ["".join(peer.name for peer in rotated(found, n)) for n in range(4)]
    assert orders == ["abc", "bca", "cab", "abc"]


def test_latency_is_added_to_the_direct_one_of_the_same_round() -> None:
    taken = {"direct": {P50: 10.0}, "wlproxy": {P50: 25.0}, "waypipe none": {}}
    add_differences(taken)
    assert taken == {
        "direct": {P50: 10.0},
        "wlproxy": {P50: 25.0, ADDED: 15.0},
        "waypipe none": {},
    }


def test_without_a_direct_one_there_is_no_difference() -> None:
    taken = {"wlproxy": {P50: 25.0}}
    add_differences(taken)
    assert taken == {"wlproxy": {P50: 25.0}}


def test_names_are_unique_and_quick_is_less() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert set(NAMES) > QUICK
    assert all(each.quick < each.count for each in (*WORKLOADS, *on_seat("")))


def test_a_note_is_read_again_and_other_bytes_are_none() -> None:
    note = Note(4711, 12, 8192)
    assert Note.decode(note.encode()) == note
    assert Note.decode(bytes(FIELDS.size)) is None
