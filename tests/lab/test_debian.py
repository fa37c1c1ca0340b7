from pathlib import Path

import pytest

from lab import debian, host_setup


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("WLPROXY_DEBIAN_MIRROR", raising=False)
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_mirror_is_the_one_in_the_deb822_sources(apt: Path) -> None:
    (apt / "sources.list.d/x.sources").write_text(
        "Types: deb\nURIs: http://a.example/debian-security http://b.example/debian/\n"
    )

    assert debian.mirror(apt) == "http://b.example/debian"


def test_mirror_is_the_one_in_the_old_list(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "# deb http://no.example/debian x\n"
        "deb [signed-by=/k] http://third.example/party x main\n"
        "deb http://c.example/debian trixie main\n"
    )

    assert debian.mirror(apt) == "http://c.example/debian"


def test_mirror_without_any_is_debians_own(apt: Path) -> None:
    assert debian.mirror(apt) == debian.DEFAULT_MIRROR


def test_mirror_can_be_set(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WLPROXY_DEBIAN_MIRROR", "http://d.example/debian/")

    assert debian.mirror(apt) == "http://d.example/debian"


@pytest.mark.parametrize("package", ["qemu-system-x86", "qemu-system-arm"])
@pytest.mark.parametrize(("release", "backports"), [("12", True), ("13", False)])
def test_only_bookworm_takes_qemu_from_backports(
    release: str, package: str, monkeypatch: pytest.MonkeyPatch, *, backports: bool
) -> None:
    monkeypatch.setattr(debian, "release", lambda: {"VERSION_ID": release})

    commands = host_setup.commands(["mmdebstrap", package])

    assert commands[0] == ["apt-get", "update"]
    assert commands[1][-1] == "mmdebstrap"
    assert commands[2][-1] == package
    assert ("bookworm-backports" in commands[2]) == backports


def test_qemus_modules_are_of_qemus_own_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(debian, "release", lambda: {"VERSION_ID": "12"})
    assert (
        "bookworm-backports" in host_setup.commands(["qemu-system-modules-opengl"])[1]
    )
