"""What docs/apps.md has one type on the host, against a real proxy, agent and launcher."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tests.docs.blocks import ROOT, Block, read_page
from tests.guest_agent.launcher.desktop import Desktop
from tests.peers.launching import SECONDS, Commands
from tests.peers.loopback import VM, Loopback

PAGE = read_page(ROOT / "docs/apps.md")


@pytest.fixture
async def commands(bare: Loopback, tmp_path: Path) -> AsyncIterator[Commands]:
    """A guest with a terminal, and a calculator that tells a fifo that it was started."""
    desktop = Desktop(tmp_path / "guest")
    programs = tmp_path / "bin"
    programs.mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name, where in (("foot", "/dev/stdout"), ("calculator", tmp_path / "fifo")):
        program = programs / name
        program.write_text(f"#!/bin/sh\necho {name} is there >{where}\n")
        program.chmod(0o755)
    desktop.entry(
        "org.gnome.Calculator",
        "[Desktop Entry]\nType=Application\nName=Calculator\nExec=calculator\n",
    )
    commands = Commands(bare, tmp_path)
    await commands.start()
    path = f"{programs}:{os.environ['PATH']}"
    await commands.start_launcher(**dict(desktop.environ) | {"PATH": path})
    yield commands
    await commands.close()


async def run_all(commands: Commands, block: Block) -> list[tuple[int, str]]:
    """Run each command of a block, with this VM for `vm`; return statuses and outputs."""
    found = []
    for program, name, vm, *words in block.commands():
        assert (program, vm) == ("wlproxy", "vm")
        done = await commands.run(VM, *words, name=name)
        found.append((done.returncode, done.stdout.decode()))
    return found


async def test_commands_of_the_page(commands: Commands) -> None:
    block = PAGE.block("## Apps from the host", "on the host:")

    release = await trio.Path("/etc/os-release").read_text()
    assert await run_all(commands, block) == [(0, "foot is there\n"), (3, release)]


async def test_apps_of_the_page(commands: Commands, tmp_path: Path) -> None:
    listed, started, exported, removed = await run_all(
        commands, PAGE.block("## In the host's menus")
    )

    assert listed == (0, "org.gnome.Calculator  Calculator\n")
    assert started == (0, "")
    with trio.fail_after(SECONDS):
        said = await trio.Path(tmp_path / "fifo").read_text()
    assert said == "calculator is there\n"
    assert exported == (0, "1 written, 0 as they were, 0 removed\n")
    assert removed == (0, "1 removed\n")
