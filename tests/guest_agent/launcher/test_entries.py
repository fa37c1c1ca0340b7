"""Desktop entries: what the specification says of each key that is used here."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.guest_agent.launcher.desktop import ENTRY, Desktop
from wlproxy_guest.launcher import entries
from wlproxy_guest.launcher.entries import (
    MAX_FILE,
    Entry,
    EntryError,
    data_directories,
    find_entries,
    find_entry,
    read_entry,
)


def entry(**keys: str) -> Entry:
    whole = {"Type": "Application", "Name": "App", "Exec": "app"} | keys
    return Entry("app", Path("/x/app.desktop"), whole)


def ids(desktop: Desktop) -> list[str]:
    return [each.id for each in find_entries(desktop.environ)]


def test_ids_are_paths_with_dashes(desktop: Desktop) -> None:
    desktop.entry("kde/foot")
    desktop.entry("org.gnome.Calculator")

    assert ids(desktop) == ["kde-foot", "org.gnome.Calculator"]


def test_the_users_own_entries_come_first(desktop: Desktop) -> None:
    desktop.entry("foot")
    desktop.entry("foot", ENTRY + "Comment=mine\n", own=True)

    (found,) = find_entries(desktop.environ)

    assert found.text("Comment") == "mine"


def test_a_hidden_entry_hides_others(desktop: Desktop) -> None:
    desktop.entry("foot")
    desktop.entry("foot", ENTRY + "Hidden=true\n", own=True)

    assert ids(desktop) == []
    assert find_entry("foot", desktop.environ) is None


def test_files_that_are_none_are_left_out(desktop: Desktop) -> None:
    desktop.entry("fine")
    desktop.entry("large", ENTRY + "#" * MAX_FILE)
    desktop.entry("latin").write_bytes(b"[Desktop Entry]\nName=\xe4\n")
    os.mkfifo(desktop.system / "applications" / "pipe.desktop")
    (desktop.system / "applications" / "gone.desktop").symlink_to("/nowhere")
    (desktop.system / "applications" / "loop").symlink_to(desktop.system)

    assert ids(desktop) == ["fine"]


def test_so_many_and_no_more(desktop: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_ENTRIES", 2)
    for name in "abc":
        desktop.entry(name)

    assert ids(desktop) == ["a", "b"]


def test_only_the_main_group_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.desktop"
    path.write_text(
        "# first\nName=before\n[Desktop Entry]\n#Name=comment\nName = first \n"
        "Name=second\nnothing\n[Desktop Action New]\nName=New\nExec=new\n"
    )

    assert read_entry("x", path).keys == {"Name": "first"}


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({}, True),
        ({"NoDisplay": "true"}, False),
        ({"NoDisplay": "false"}, True),
        ({"Terminal": "true"}, False),
        ({"Type": "Link"}, False),
        ({"Name": ""}, False),
        ({"Exec": ""}, False),
        ({"OnlyShowIn": "KDE;GNOME;"}, True),
        ({"OnlyShowIn": "KDE;"}, False),
        ({"NotShowIn": "KDE;"}, True),
        ({"NotShowIn": "GNOME;"}, False),
        ({"TryExec": "sh"}, True),
        ({"TryExec": "no-such-program"}, False),
        ({"TryExec": "/bin/sh"}, True),
    ],
)
def test_what_a_menu_has(keys: dict[str, str], *, shown: bool) -> None:
    environ = {"PATH": os.environ["PATH"], "XDG_CURRENT_DESKTOP": "ubuntu:GNOME"}

    assert entry(**keys).shown(environ) is shown


@pytest.mark.parametrize(
    ("locale", "name"),
    [
        ("C", "App"),
        ("de_AT.UTF-8", "Österreich"),
        ("de_DE.UTF-8", "Deutsch"),
        ("sr_RS.UTF-8@latin", "Latinica"),
        ("sr_RS@latin", "Latinica"),
        ("fr_FR.UTF-8", "App"),
    ],
)
def test_names_are_in_the_users_language(
    monkeypatch: pytest.MonkeyPatch, locale: str, name: str
) -> None:
    monkeypatch.setattr(
        "wlproxy_guest.launcher.entries.locale.setlocale", lambda *_: locale
    )
    translated = {
        "Name[de]": "Deutsch",
        "Name[de_AT]": "Österreich",
        "Name[sr@latin]": "Latinica",
    }

    assert entry(**translated).localized("Name") == name


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("foot", ["foot"]),
        ("foot  -e   top ", ["foot", "-e", "top"]),
        ("foot %U", ["foot"]),
        ("foot --file=%f", ["foot", "--file="]),
        ("foot %i %c %k", ["foot", "--icon", "icon", "My App", "/x/app.desktop"]),
        ("foot 100%%", ["foot", "100%"]),
        ("foot %d%D %v", ["foot", ""]),
        ('"my app" "a \\\\"b\\\\" \\\\$c"', ["my app", 'a "b" $c']),
        ('sh -c "echo \\\\\\\\ done"', ["sh", "-c", "echo \\ done"]),
        ('app "" x', ["app", "", "x"]),
        ('app "a\\\\b"', ["app", "a\\b"]),
    ],
)
def test_what_is_started(command: str, argv: list[str]) -> None:
    made = entry(Exec=command, Name="My App", Icon="icon")

    assert made.argv() == argv


def test_without_an_icon_nothing_is_said_of_it() -> None:
    assert entry(Exec="foot %i").argv() == ["foot"]


@pytest.mark.parametrize(
    "command", ["", "%u", '"unended', "foot %x", "foot %", '"a\\\\']
)
def test_what_cannot_be_started(command: str) -> None:
    with pytest.raises(EntryError):
        entry(Exec=command).argv()


@given(st.text('ab%fucik"\\$` ', max_size=30))
def test_any_command_is_arguments_or_wrong(command: str) -> None:
    try:
        argv = entry(Exec=command).argv()
    except EntryError:
        return
    assert all(isinstance(each, str) for each in argv)


def test_strings_have_escapes() -> None:
    assert entry(Name=r"a\sb\tc\\d\qe").text("Name") == "a b\tc\\d\\qe"
    assert entry(Name="end\\").text("Name") == "end\\"


def test_where_data_is() -> None:
    assert data_directories({}) == [
        Path("/.local/share"),
        Path("/usr/local/share"),
        Path("/usr/share"),
    ]
