"""What a guest may not see, tried by name and by number, against a compositor that has all of it."""

import struct

from pywayland.protocol_core.interface import Interface

from tests.integration.loopback.test_registry import CALLBACK, REGISTRY, hasty, talk
from tests.peers.loopback import Loopback
from wlproxy.protocol.wayland.message import DisplayError
from wlproxy.relay.policy_tree import Globals, Policy
from wlproxy.relay.verdicts import VERDICTS, Access

DENIED = sorted(
    name for name, verdict in VERDICTS.items() if verdict.access is not Access.ALLOWED
)
DONE = struct.pack("=II", CALLBACK, 12 << 16)


def interface(named: str) -> type[Interface]:
    """A global of this name: nobody gets as far as its messages."""
    made: type[Interface] = type(named, (Interface,), {"name": named, "version": 1})
    made._gen_c()  # noqa: SLF001 - as pywayland's scanner has it
    return made


async def test_every_denied_global_is_refused_and_the_compositor_hears_nothing(
    loopback: Loopback,
) -> None:
    compositor = loopback.compositor

    direct = await loopback.direct_app()
    there = {name for name, _version in direct.globals.values()}
    for named in DENIED:
        if named not in there:
            compositor.add_global(interface(named), 1)
    await direct.roundtrip()
    numbers = {named: number for number, (named, _) in direct.globals.items()}
    assert set(DENIED) <= numbers.keys()
    app = await loopback.app()
    assert not {name for name, _ in app.globals.values()} & set(DENIED)
    unused = max(numbers.values()) + 1000
    seen = len(compositor.calls)

    for named in DENIED:
        # Its own number, that of a global which may be had, and one that nothing has.
        for number in (numbers[named], numbers["wl_compositor"], unused):
            heard = await talk(loopback.display, hasty(number, named))
            # wl_display.error: about the registry, as libwayland has it.
            error = struct.pack("=II", REGISTRY, DisplayError.INVALID_OBJECT)
            text = f"invalid global {named} ({number})"
            assert text.encode() in heard, (named, number)
            assert error in heard, (named, number)
            assert DONE not in heard

    # Nor does another name help to what is denied.
    heard = await talk(loopback.display, hasty(numbers[DENIED[0]], "wl_compositor"))
    assert b"invalid global wl_compositor" in heard
    bound = {
        resource.interface.name
        for client in compositor.clients
        for resource in client.resources
    }
    assert not bound & set(DENIED)
    heard_of = {call.resource.interface.name for call in compositor.calls[seen:]}
    assert not heard_of & set(DENIED)


async def test_what_is_allowed_denied_and_capped_is_seen_so(bare: Loopback) -> None:
    await bare.start_compositor()
    await bare.start_agent()
    name = "ext_foreign_toplevel_list_v1"
    policy = Policy(
        Globals(allow=(name,), deny=("wl_output",), versions={"wl_seat": 3})
    )
    bare.compositor.add_global(interface(name), 1)
    await bare.start_host(policy=policy)
    app = await bare.app()
    offered = dict(app.globals.values())
    assert offered[name] == 1
    assert offered["wl_seat"] == 3
    assert "wl_output" not in offered


async def test_another_policy_is_in_force_at_once_for_apps_that_run(
    loopback: Loopback,
) -> None:
    app = await loopback.app()
    direct = await loopback.direct_app()
    output, _ = app.find("wl_output")
    assert loopback.host.bound("wl_compositor") == 0
    loopback.host.obey(Policy(Globals(deny=("wl_output",), versions={"wl_seat": 3})))
    await app.roundtrip()
    assert output not in app.globals
    _, version = app.find("wl_seat")
    assert version == 3
    heard = await talk(loopback.display, hasty(output, "wl_output"))
    assert f"invalid global wl_output ({output})".encode() in heard
    loopback.host.obey(Policy())
    await app.roundtrip()
    assert app.globals[output][0] == "wl_output"
    assert app.find("wl_seat") == direct.find("wl_seat")
