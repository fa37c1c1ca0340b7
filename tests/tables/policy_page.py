"""`docs/policy.md`: every key of a policy, as tables, made of what the code goes by."""

import inspect
from pathlib import Path

from wlproxy.relay.policy_tree import GROUPS, Policy, Row, rows

POLICY_PAGE = Path(__file__).parents[2] / "docs/policy.md"

_TOP = """\
# What a guest may do

<!-- `make tables` writes this page, of wlproxy/relay/policy_tree.py: change that. -->

The policy of a VM is a table `policy` in `~/.config/wlproxy/config.toml` ([settings](several-vms.md#settings)), with a
table for each group below; `[defaults.policy]` is for all VMs, and a key of the VM's own counts before it:

<!-- run by: tests/docs/test_pages.py::test_the_policy_is_right -->

```toml
[defaults.policy]
clipboard.direction = "to-guest"
windows.idle-inhibition = "off"

[vm.work.policy]
globals.deny = ["zwp_pointer_constraints_v1"]
clipboard = { direction = "ask", types = ["text/*"], max-bytes = 1048576 }
```

`wlproxy policy check` names every mistake with its file, line and key, `wlproxy policy show work` prints what is in force
and where each line is from: a default, a line of the file, or the command line (`--allow`, `--deny`, which count before the
file for the globals that they name, and `--frame`).

`wlproxy reload` has proxies that run read the file again, and so has `systemctl --user reload wlproxy@work.service` (SIGHUP, which
ends a proxy that was started from a terminal). `wlproxy screen` goes by `clipboard` and `primary`, too, and reads them again likewise
([what they mean there](screen.md#in-the-window)).
The table says when another value is in force for an app that runs. If a global is not granted any more, an app keeps what it has
bound of it, and `reload` says so; an app that binds it at the very moment when it is taken away ends with an error. If there is a mistake, all stays as it was.

An app that is refused something is not ended (but for one that makes too many windows): it sees what it would see of a
compositor that does not care to.

## What `ask` asks

A gesture is a key, a button, a finger or a pen that is pressed in a window of the app's; menus and other parts are of the
window below them. It lets the app copy and paste for a second, at the seat where it was made, until that seat's keyboard
goes to another window. That something was copied, and as which types, an app with the focus is told without a gesture: it could
not have a *Paste* in its menu otherwise. (`to-host` and `off` keep that from it, too.)

A request without a gesture waits for your answer, if the desktop shows notifications with buttons (org.freedesktop.Notifications,
on the session bus): "work: paste from the host?", with the app's name and the MIME type, *Allow* and *Refuse*. No
answer within 15 seconds is a no. A yes is as good as a gesture, but only for what you were asked: for a second, the app may have other types
of the same, too. Who may copy may not paste for it. What is copied after a question has the types that you were told of or
counted, and no others.

There is one question for a VM at a time, and what another app asks for meanwhile is refused. After a no, you are not asked for
10 seconds, and for twice as long after each further no, up to 10 minutes, until you allow something. An app
is refused without a question unless one of its windows has the keyboard, or, if it is allowed to manage clipboards
(`ext_data_control_manager_v1`), one of the VM's. So is every app where the desktop shows no such
notifications, which the log says once, at the level `info`. The notification is transient, so that no history keeps it. Some desktops have
the buttons in a menu (`makoctl menu`, dunst's context menu); a click beside them never allows anything.

## What clipboard managers may set

With `managers = "own"`, what a clipboard manager of the guest sets, or takes back, is passed on

- where the last selection was the VM's own, also if it is gone with the app that had copied it;
- within a second after a key or a button was pressed in a window of this VM's: an entry that is picked in the manager's window
  is set, and so is what a command sets that was typed in a terminal, such as `wl-copy` where it finds data control, whatever it
  replaces;
- where `direction` is `ask`, as always there: after such a gesture, or your answer.

Otherwise the host hears nothing of it, and the manager is told that its source was replaced (`cancelled`). After 64 times in a row an app of the VM has
to copy something first, or the user to press something. What was copied while `managers` was `all` is nobody's own.
"""


def policy_page() -> str:
    """Write the page."""
    parts = [_TOP]
    for group, kind in GROUPS.items():
        about = (inspect.getdoc(kind) or "").partition("\n")[0]
        lines = [
            "| key | default | what it decides | why that is the default | in force |",
            "|---|---|---|---|---|",
            *(_line(row) for row in rows(group)),
        ]
        parts.append(f"## {group}\n\n{about}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(row: Row) -> str:
    words = (
        f"`{row.name}`",
        f"`{row.written(Policy())}`",
        f"{row.key.what} It is {row.key.kind.name}.",
        row.key.why,
        row.key.effect.value,
    )
    return f"| {' | '.join(words)} |"
