"""What a command that the host starts finds around it."""

from pathlib import Path

from wlproxy_guest.doctor import machine
from wlproxy_guest.launcher.surroundings import DISPLAY, SOCKET, display_of


def test_the_display_is_a_name_where_there_is_one(tmp_path: Path) -> None:
    """Or programs that make names of it, such as foot's server, would not start."""
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert display_of(environ) == SOCKET
    assert display_of({}) == SOCKET

    # A link to nothing, while the agent's socket is not there yet.
    (tmp_path / DISPLAY).symlink_to(tmp_path / "nothing")
    assert display_of(environ) == DISPLAY


def test_names_are_those_of_logins() -> None:
    assert (machine.DISPLAY, machine.SOCKET) == (DISPLAY, SOCKET)
