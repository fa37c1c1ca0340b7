"""`wl_registry` and `wl_display`: what a guest may see, and errors about its objects."""

import pytest

from tests.relay.compositor import GLOBALS
from tests.relay.playbook import ONLY_SHM, Playbook, Stage
from tests.relay.things import Thing
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import NewId
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.relay.policy_tree import Globals, Policy
from wlproxy.relay.wire.context import RelayConfig

HIDDEN = {"zwp_linux_dmabuf_v1", "zwlr_screencopy_manager_v1", "some_vendors_own_v1"}


def bind(play: Playbook, name: int, interface: bytes, version: int) -> Thing:
    thing = play.app.new("wl_output", version)
    spec = play.app.registry.interface.request("bind")
    args = (name, NewId(interface, version, thing.id))
    play.send(encode_message(play.app.registry.id, spec, args))
    return thing


def test_only_allowed_globals_are_advertised() -> None:
    play = Playbook()

    names = {interface for interface, _ in play.app.globals.values()}

    assert names == {interface for interface, _ in GLOBALS.values()} - HIDDEN


def test_versions_are_capped_by_host_and_policy() -> None:
    policy = Policy(Globals(versions={"wl_seat": 5}))
    play = Playbook(config=RelayConfig(policy=policy))
    versions = dict(play.app.globals.values())

    assert versions["wl_seat"] == 5
    assert versions["wl_shm"] == 2
    bind(play, 3, b"wl_seat", 6)
    assert play.app.error == (
        *(2, 0),
        "invalid version for global wl_seat (3): have 5, wanted 6",
    )


def test_what_was_advertised_can_be_bound() -> None:
    play = Playbook()

    play.app.bind("wl_output", 3)

    assert play.said() == ["host: wl_registry@2.bind(8, new wl_output@3)"]
    assert play.host_thing("wl_output").version == 3


@pytest.mark.parametrize(
    ("name", "interface", "version", "message"),
    [
        (99, b"wl_output", 1, "invalid global wl_output (99)"),
        (3, b"wl_output", 1, "invalid global wl_output (3)"),
        (5, b"zwp_linux_dmabuf_v1", 1, "invalid global zwp_linux_dmabuf_v1 (5)"),
        (12, b"some_vendors_own_v1", 1, "invalid global some_vendors_own_v1 (12)"),
        (8, b"", 1, "invalid global  (8)"),
        (
            8,
            b"wl_output",
            0,
            "invalid version for global wl_output (8): have 4, wanted 0",
        ),
        (
            8,
            b"wl_output",
            5,
            "invalid version for global wl_output (8): have 4, wanted 5",
        ),
    ],
)
def test_nothing_else_can(
    name: int, interface: bytes, version: int, message: str
) -> None:
    play = Playbook()

    bind(play, name, interface, version)

    assert play.app.error == (2, 0, message)
    assert not [said for said in play.said_by("host") if ".bind(" in said]


def in_one_write(play: Playbook, *binds: tuple[int, bytes, int]) -> None:
    """Have the app ask for the globals, bind some, and sync, without reading."""
    registry = play.app.new("wl_registry", 1)
    display = play.app.display.interface
    bind = registry.interface.request("bind")
    written = [encode_message(1, display.request("get_registry"), (registry.id,))]
    for name, interface, version in binds:
        new_id = NewId(interface, version, play.app.new(interface.decode(), version).id)
        written.append(encode_message(registry.id, bind, (name, new_id)))
    callback = play.app.new("wl_callback", 1)
    written.append(encode_message(1, display.request("sync"), (callback.id,)))
    play.send(b"".join(written))


def test_what_is_not_announced_yet_can_be_bound() -> None:
    play = Playbook(start=False)
    play.deliver = False

    in_one_write(play, (8, b"wl_output", 3), (3, b"wl_seat", 2))
    assert play.said_by("host") == [
        "wl_display@1.get_registry(new wl_registry@2)",
        "wl_display@1.sync(new wl_callback@3)",
    ]
    assert play.credit == 0  # it waits, with all that it sent behind it
    play.flush()

    said = play.said()
    assert [line for line in said if line.startswith("host: ")] == [
        "host: wl_registry@2.bind(8, new wl_output@4)",
        "host: wl_registry@2.bind(3, new wl_seat@5)",
        "host: wl_display@1.sync(new wl_callback@6)",
    ]
    assert "app: wl_callback@5.done(2)" in said
    assert play.app.error is None
    assert play.credit


@pytest.mark.parametrize(
    ("name", "interface"),
    [(12, b"wl_output"), (9, b"wl_output"), (3, b"wl_output"), (77, b"wl_output")],
)
def test_what_is_not_announced_is_hidden_all_the_same(
    name: int, interface: bytes
) -> None:
    play = Playbook(start=False)

    in_one_write(play, (name, interface, 1))

    assert play.app.error == (2, 0, f"invalid global wl_output ({name})")
    assert not [said for said in play.said_by("host") if ".bind(" in said]


def test_a_global_whose_announcement_is_on_its_way_can_be_bound() -> None:
    play = Playbook()
    play.deliver = False
    play.host.globals[40] = ("wl_output", 4)
    play.host.event(play.host_thing("wl_registry"), "global", 40, b"wl_output", 4)

    bind(play, 40, b"wl_output", 4)
    play.flush()

    assert play.app.error is None
    assert play.host_thing("wl_output").version == 4


def test_each_name_that_nobody_knows_is_asked_for_anew() -> None:
    play = Playbook()
    play.host.globals[40] = ("wl_output", 4)
    play.host.globals[41] = ("wl_output", 4)
    registry = play.host_thing("wl_registry")

    play.host.event(registry, "global", 40, b"wl_output", 4)
    play.deliver = False
    bind(play, 40, b"wl_output", 4)
    play.flush()
    play.host.event(registry, "global", 41, b"wl_output", 4)
    bind(play, 41, b"wl_output", 4)
    play.flush()

    assert play.app.error is None


@pytest.mark.parametrize(("name", "told"), [(8, True), (5, False), (99, False)])
def test_a_global_goes(name: int, *, told: bool) -> None:
    play = Playbook()

    play.host.event(play.host_thing("wl_registry"), "global_remove", name)
    play.flush()

    said = [f"app: wl_registry@2.global_remove({name})"] if told else []
    assert play.said() == said
    play.app.bind("wl_output")  # a race, not an error
    assert play.app.error is None


def test_an_error_is_about_the_guests_own_object() -> None:
    play = Stage(ONLY_SHM)
    (one,) = play.buffers(1)
    play.show(play.surface, one)
    second = play.new_surface()
    host = play.host_thing("wl_surface", 1)
    assert host.id != second.id  # the proxy has objects of its own by now

    play.host.event(play.host.display, "error", host.id, 2, b"bad size")
    play.flush()

    assert play.app.error == (second.id, 2, "bad size")
    assert any("protocol error 2 about wl_surface@" in text for text in play.warnings())


def test_an_error_about_what_the_guest_never_made() -> None:
    play = Stage(ONLY_SHM)
    (one,) = play.buffers(1)
    play.show(play.surface, one)
    own_shm = next(
        t
        for t in play.host.things.values()
        if t.interface.name == "wl_shm" and t.version == 1
    )

    play.host.event(play.host.display, "error", own_shm.id, 0, b"hm")
    play.flush()

    assert play.app.error == (1, 3, "hm")


def test_an_error_about_nothing() -> None:
    play = Playbook()
    nothing = Thing(99, INTERFACES["wl_output"], 1)

    data = encode_message(
        1, play.host.display.interface.event("error"), (nothing.id, 7, b"hm")
    )
    play.from_compositor(data)

    assert play.app.error == (1, 3, "hm")


def test_ids_are_freed_on_both_sides_and_used_again() -> None:
    play = Playbook()

    play.app.request(play.app.display, "sync")
    play.app.request(play.app.display, "sync")

    assert play.said() == [
        "host: wl_display@1.sync(new wl_callback@3)",
        "app: wl_callback@3.done(1)",
        "app: wl_display@1.delete_id(3)",
        "host: wl_display@1.sync(new wl_callback@3)",
        "app: wl_callback@3.done(2)",
        "app: wl_display@1.delete_id(3)",
    ]


# ---------------------------------------------------------------- wl_fixes


def fixed() -> tuple[Stage, Thing, Thing]:
    """An app that has wl_fixes: it, and the app's registry."""
    play = Stage(ONLY_SHM)
    registry = play.app.registry
    fixes = play.plug("wl_fixes", 2)
    assert fixes.version == 1  # nobody would acknowledge what is hidden
    play.said()
    return play, fixes, registry


def destroy(play: Playbook, fixes: Thing, registry: Thing) -> None:
    play.app.destroyed(registry)
    play.app.request(fixes, "destroy_registry", registry.id)


def test_a_registry_can_be_destroyed() -> None:
    play, fixes, registry = fixed()

    destroy(play, fixes, registry)

    said = play.said()
    assert (
        f"host: wl_fixes@{play.host_thing('wl_fixes').id}.destroy_registry(@2)" in said
    )
    assert f"app: wl_display@1.delete_id({registry.id})" in said
    again = play.app.request(play.app.display, "get_registry")
    assert again.id == registry.id  # whose id is free
    assert play.app.error is None
    play.app.bind("wl_seat")
    assert play.app.error is None


def test_a_registry_that_is_being_destroyed_hears_nothing_of_ours() -> None:
    play, fixes, registry = fixed()
    host_registry = play.host_thing("wl_registry")
    play.deliver = False
    play.host.event(host_registry, "global", 40, b"wl_output", 4)
    destroy(play, fixes, registry)
    play.host.event(play.host_thing("wl_registry"), "global_remove", 8)
    play.said()

    play.flush()

    assert [line for line in play.said_by("app") if "wl_registry" in line] == []


def test_nothing_is_bound_at_a_registry_that_is_destroyed() -> None:
    play, fixes, registry = fixed()
    play.deliver = False
    destroy(play, fixes, registry)

    thing = play.app.new("wl_output", 1)
    spec = registry.interface.request("bind")
    play.send(encode_message(registry.id, spec, (8, NewId(b"wl_output", 1, thing.id))))

    assert play.app.error == (registry.id, 0, "the registry is destroyed")


@pytest.mark.parametrize("interface", ["wl_seat", "wl_fixes"])
def test_only_a_registry_is_destroyed_as_one(interface: str) -> None:
    play, fixes, _ = fixed()
    other = fixes if interface == "wl_fixes" else play.app.bind(interface)

    play.app.request(fixes, "destroy_registry", other.id)

    assert play.app.error == (1, 0, f"object {other.id} is no wl_registry")


def test_globals_are_known_without_a_registry_of_the_apps() -> None:
    """Else a buffer would be shown through a wl_shm that has gone."""
    play, fixes, registry = fixed()
    destroy(play, fixes, registry)
    own = play.host_thing("wl_registry")
    play.host.event(own, "global_remove", 2)
    play.host.globals[50] = ("wl_shm", 2)
    play.host.event(own, "global", 50, b"wl_shm", 2)
    play.flush()
    play.said()

    (one,) = play.buffers(1)
    play.show(play.surface, one)

    said = play.said_by("host")
    assert any(line.startswith(f"wl_registry@{own.id}.bind(50, ") for line in said)
    assert play.app.error is None
