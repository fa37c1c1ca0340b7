"""The configuration file: what is in it, and where."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.host.config_file import (
    ConfigFile,
    ConfigFileError,
    default_path,
    line_of,
)

PATH = Path("/c.toml")
TEXT = """\
# A comment, with vm.work in it.
[defaults]
log-level = "info"

[vm.work]     # one
"channel" = "/x"
tap.group = "kvm"

[vm."play"]
allow = [
  "one",
]
"""


def test_tables_by_name() -> None:
    file = ConfigFile(PATH, TEXT)
    assert file.vms == ("work", "play")
    assert file.table("defaults") == {"log-level": "info"}
    assert file.table("vm", "work", "tap") == {"group": "kvm"}
    assert file.table("vm", "other") == {}


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("defaults",), 2),
        (("defaults", "log-level"), 3),
        (("vm", "work"), 5),
        (("vm", "work", "channel"), 6),
        (("vm", "work", "tap", "group"), 7),
        (("vm", "play", "allow"), 10),
        (("vm", "play", "unsaid"), 9),
        (("nothing",), None),
    ],
)
def test_where_something_is_said(keys: tuple[str, ...], line: int | None) -> None:
    assert line_of(TEXT.splitlines(), keys) == line


def test_an_inline_table_is_found_by_the_key_that_has_it() -> None:
    assert line_of(["a = 1", "vm.work = { present = 'x' }"], ("vm", "work", "x")) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = ", "/c.toml is not TOML"),
        ("x = [" * 3000, "/c.toml is not TOML"),
        ("\ndefault = {}", "/c.toml:2: default: is nothing that can be set here"),
        ("\n\nvm = 3", "/c.toml:3: vm: is to be a table"),
        ("defaults = 3", "/c.toml:1: defaults: is to be a table"),
        ("[vm]\nwork = 3", "/c.toml:2: vm.work: is to be a table"),
        ("[vm.'a.b']", "/c.toml:1: vm.a.b: 'a.b' cannot name a VM"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ConfigFileError) as caught:
        ConfigFile(PATH, text)
    assert str(caught.value).startswith(said)
    assert caught.value.remedy or "not TOML" in said


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(ConfigFileError, match="Did you mean defaults"):
        ConfigFile(PATH, "[default]")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match="ENOENT"):
        ConfigFile.read(tmp_path / "c.toml")


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"# fine\n# \xff\n")
    with pytest.raises(ConfigFileError, match=r"c\.toml:2: it is not UTF-8"):
        ConfigFile.read(path)


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    inside = Path("wlproxy", "config.toml")
    assert default_path({"XDG_CONFIG_HOME": "/c"}) == "/c" / inside
    # The specification has relative paths ignored.
    assert default_path({"XDG_CONFIG_HOME": "c"}) == tmp_path / ".config" / inside
    assert default_path({}) == tmp_path / ".config" / inside


@given(st.text(alphabet="[]\"'.=#\\ \n\tavmdefults{}1,", max_size=80))
def test_garbage_is_refused_in_a_sentence_or_read(text: str) -> None:
    try:
        file = ConfigFile(PATH, text)
    except ConfigFileError as exc:
        assert str(exc).startswith("/c.toml")  # noqa: PT017 - either is right
    else:
        assert set(tomllib.loads(text)) <= {"defaults", "vm"}
        assert all(isinstance(file.table("vm", name), dict) for name in file.vms)


KEYS = st.lists(
    st.from_regex(r"[a-z][a-z0-9_-]{0,5}", fullmatch=True),
    min_size=1,
    max_size=4,
    unique=True,
)


@given(tables=KEYS, keys=KEYS, blank=st.integers(0, 3))
def test_any_key_of_a_plain_document_is_found(
    tables: list[str], keys: list[str], blank: int
) -> None:
    lines = [""] * blank
    where: dict[tuple[str, ...], int] = {}
    for table in tables:
        lines.append(f"[vm.{table}]")
        where["vm", table] = len(lines)
        for key in keys:
            lines.append(f"{key} = 1")
            where["vm", table, key] = len(lines)
    assert {path: line_of(lines, path) for path in where} == where
