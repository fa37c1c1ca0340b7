"""`docs/protocols.md`: what a guest may see, as tables, made of what the code goes by."""

from collections.abc import Iterator
from pathlib import Path

from tests.tables.families import family, messages
from wlproxy.protocol.wayland.interface import MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.filters import EVENT_FILTERS, REQUEST_FILTERS
from wlproxy.relay.verdicts import VERDICTS, Access, Verdict
from wlproxy.relay.wire.passed_fds import PURPOSES, Purpose
from wlproxy.relay.wire.timestamps import EVENT_TIMES, REQUEST_TIMES

PAGE = Path(__file__).parents[2] / "docs/protocols.md"

_TOP = """\
# Which protocols a guest may use

<!-- `make tables` writes this page, of wlproxy/relay/verdicts.py: change that. -->

An app of the guest sees a global of the compositor if wlproxy's policy allows it, and the
compositor has it for clients of wlproxy's (see [security](security.md)). Everything else is never
advertised, and cannot be bound. `wlproxy run --allow GLOBAL` and `--deny GLOBAL` change that for a VM;
for what has no effect, the log says why.

*On its way* says what becomes of a protocol's messages. Those of which nothing is said are forwarded as
they are, but for the ids of objects. *Filter* names the file in `wlproxy/relay/filters` that changes or
answers some; *times* are translated between the two clocks; *pipes* are carried as streams, so that one end of
a paste is in the guest; *files* of the host are sent to the guest as copies. *Buffers* are the guest's
own, shown as any buffer is; what a compositor writes into one (a capture) does not arrive in mode C.

A global is offered in the compositor's version, but no higher than the table says.

Each global that Debian 13's sway, weston, KWin and Mutter offer where there is no screen has a row. They are run to find
that out (`python -m tests.tables offered`), and a test fails for one that has none.
"""

_SECTIONS = {
    Access.ALLOWED: (
        "Allowed",
        "What apps need for their own windows. Hide one with `--deny GLOBAL`.",
    ),
    Access.ON_REQUEST: (
        "On request",
        (
            "Only with `--allow GLOBAL`. Those with a **!** reach beyond a client's own windows: whoever allows "
            "one trusts all of the guest with what is said of it. Some compositors (wlroots) deny these to clients of a security "
            "context, too, which `--no-security-context` does without."
        ),
    ),
    Access.DENIED: (
        "Never",
        (
            "What cannot be relayed, or would not mean the same in a guest. `--allow` refuses it. "
            "Whatever is in no table of this page is not known, and hidden as well."
        ),
    ),
}


def page() -> str:
    """Write the page."""
    parts = [_TOP]
    for access, (title, said) in _SECTIONS.items():
        rows = {k: v for k, v in sorted(VERDICTS.items()) if v.access is access}
        parts.append(f"## {title}\n\n{said}\n\n{_table(access, rows)}")
    return "\n".join(parts)


def on_its_way(name: str) -> Iterator[str]:
    """Say what becomes of the messages that belong to a global."""
    filters = claiming(name)
    if filters:
        yield "filter " + ", ".join(f"`{each}`" for each in sorted(filters))
    keys = {(spec.interface, spec.name) for spec in _messages_of(name)}
    if keys & (EVENT_TIMES.keys() | REQUEST_TIMES.keys()):
        yield "times"
    purposes = {PURPOSES[key] for key in keys & PURPOSES.keys()}
    if Purpose.WRITTEN in purposes:
        yield "pipes"
    if Purpose.CONTENTS in purposes:
        yield "files"
    if any(
        arg.interface == "wl_buffer" and not arg.is_new_id
        for spec in _messages_of(name)
        for arg in spec.args
    ):
        yield "buffers"


def claiming(name: str) -> set[str]:
    """Find the modules whose filters claim a message that belongs to a global."""
    claims = {**REQUEST_FILTERS, **EVENT_FILTERS}
    keys = {(spec.interface, spec.name) for spec in _messages_of(name)}
    return {claims[key].__module__.rpartition(".")[2] for key in keys & claims.keys()}


def _messages_of(name: str) -> Iterator[MessageSpec]:
    for member in family(name) if name in INTERFACES else ():
        yield from messages(member)


def _table(access: Access, rows: dict[str, Verdict]) -> str:
    if access is Access.DENIED:
        lines = ["| global | why |", "|---|---|"]
        lines += [f"| `{name}` | {row.why} |" for name, row in rows.items()]
    else:
        lines = ["| global | up to | what for | on its way |", "|---|---|---|---|"]
        for name, row in rows.items():
            most = min(row.most, INTERFACES.version(name))
            flag = " **!**" if row.reaches else ""
            way = "; ".join(on_its_way(name))
            lines.append(f"| `{name}`{flag} | {most} | {row.why} | {way} |")
    return "\n".join(lines) + "\n"
