"""Manual pages and completion say what the programs do, and shells take them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from release.pages import AGENT, HOST, LAUNCHER, roff
from release.share import SHARE, made, outdated, write
from wlproxy.cli import COMMANDS

PAGES = sorted((SHARE / "man/man1").glob("*.1"))


def test_share_is_current() -> None:
    assert outdated() == [], "make share"


def test_each_command_has_a_page() -> None:
    names = {HOST, AGENT, LAUNCHER, *(f"{HOST}-{command}" for command in COMMANDS)}
    assert {path.stem for path in PAGES} == names


def test_what_is_missing_changed_or_left_over_is_found(tmp_path: Path) -> None:
    write(tmp_path)
    assert outdated(tmp_path) == []
    changed, missing = sorted(made())[:2]
    (tmp_path / changed).write_text("else")
    (tmp_path / missing).unlink()
    (tmp_path / "man/man1/of-old.1").write_text("")
    assert outdated(tmp_path) == sorted([changed, missing, "man/man1/of-old.1"])

    write(tmp_path)
    assert outdated(tmp_path) == []


def test_no_path_of_this_machine_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = made()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/4711")
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("WLPROXY_LAUNCH_USERS", "ada")
    monkeypatch.setenv("WLPROXY_LAUNCH_SOCKET", "/run/x")
    assert made() == before


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("--a-b", r"\-\-a\-b"),
        (".request", r"\&.request"),
        ("'quoted' `code`", r"\(aqquoted\(aq \(gacode\(ga"),
        (r"a\b", r"a\eb"),
    ],
)
def test_text_is_no_request(text: str, source: str) -> None:
    assert roff(text) == source


@pytest.mark.skipif(not shutil.which("man"), reason="needs man")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_man_shows_it_without_a_warning(page: Path) -> None:
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
        check=True,
        timeout=30,
    )
    assert done.stderr == ""


def complete_in_bash(word: str) -> set[str]:
    """Return what bash would offer for a word of the agent's command line."""
    file = SHARE / "bash-completion/completions" / AGENT
    script = f'complete() {{ words=$4; }}; . {file}; compgen -W "$words" -- {word}'
    done = subprocess.run(
        ["bash", "-euc", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return set(done.stdout.split())


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_the_agents_options() -> None:
    assert complete_in_bash("--max-p") == {
        *("--max-pinned-mib", "--max-pinned-total-mib")
    }
    assert complete_in_bash("do") == {"doctor"}


@pytest.mark.parametrize(
    ("shell", "pattern"),
    [
        ("bash", "bash-completion/completions/*"),
        ("zsh", "zsh/vendor-completions/*"),
        ("fish", "fish/vendor_completions.d/*"),
    ],
)
def test_shells_can_read_their_files(shell: str, pattern: str) -> None:
    files = sorted(SHARE.glob(pattern))
    assert len(files) == 3
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    for path in files:
        subprocess.run([shell, "-n", str(path)], check=True, timeout=30)


def test_zsh_knows_what_its_files_are_for() -> None:
    for path in SHARE.glob("zsh/vendor-completions/_*"):
        assert path.read_text().startswith(f"#compdef {path.name[1:]}\n")


def test_limits_are_those_that_the_doctor_wants() -> None:
    from wlproxy.host.desktop.udmabuf_device import UdmabufLimits
    from wlproxy.host.doctor import Verdict, check_limits

    text = (SHARE / "modprobe.d/wlproxy.conf").read_text()
    found = re.findall(
        r"^options (\w+) list_limit=(\d+) size_limit_mb=(\d+)$", text, re.MULTILINE
    )
    assert [module for module, *_ in found] == ["udmabuf", "udmabuf_compat"]
    for _, items, size in found:
        limits = UdmabufLimits(int(items), int(size) << 20)
        assert {each.verdict for each in check_limits(limits)} == {Verdict.OK}


def test_the_rule_is_that_of_the_documents() -> None:
    rule = (SHARE / "udev/70-wlproxy.rules").read_text().splitlines()[-1]
    document = (SHARE.parent / "docs/install.md").read_text()
    (documented,) = re.findall(r"echo '(KERNEL==\"udmabuf\".*?)' >", document)
    assert set(documented.split(", ")) <= set(rule.split(", "))
