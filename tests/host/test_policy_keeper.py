"""A policy that is read again while the proxy runs, by the socket."""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing
from click.testing import CliRunner, Result

from wlproxy import cli
from wlproxy.host.errors import HostError
from wlproxy.host.policy_file import PolicySource
from wlproxy.host.policy_keeper import (
    RELOAD,
    SHOW,
    PolicyKeeper,
    ask_policy,
    serve_policy,
)
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.runtime_dir import listen_at, policy_path
from wlproxy.relay.policy_tree import Direction, Policy

OFF = '[vm.work.policy]\nclipboard.direction = "off"\nglobals.deny = ["wl_output"]\n'


class Bench:
    """A keeper, and what it has had to be in force."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "c.toml"
        self.file.write_text("")
        self.status = directory / "work.sock"
        self.obeyed: list[Policy] = []
        source = PolicySource("work", self.file)
        self.framed_otherwise = 0
        bound = {"wl_output": 2, "wl_seat": 1}.__getitem__
        self.keeper = PolicyKeeper(
            *(source, self.obeyed.append, bound),
            *(lambda: self.framed_otherwise, VmLog("work")),
        )

    async def ask(self, question: str) -> dict[str, object]:
        path = policy_path(self.status)
        return dict(await trio.to_thread.run_sync(ask_policy, path, question))


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Bench]:
    bench = Bench(directory)
    async with trio.open_nursery() as nursery:
        log = VmLog("work")
        nursery.start_soon(partial(serve_policy, bench.status, bench.keeper, log))
        await trio.testing.wait_all_tasks_blocked()
        yield bench
        nursery.cancel_scope.cancel()
    assert not policy_path(bench.status).exists()


async def test_shown_and_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(tmp_path) as bench:
        shown = await bench.ask(SHOW)
        assert ["clipboard.direction", '"both"', "default"] in shown["lines"]  # type: ignore[operator]
        assert await bench.ask(RELOAD) == {"changed": [], "kept": []}
        bench.file.write_text(OFF)
        place = str(bench.file)
        assert await bench.ask(RELOAD) == {
            "changed": [
                [
                    *("globals.deny", '["wl_output"]', f"{place}:3"),
                    "for what it binds from then on",
                ],
                ["clipboard.direction", '"off"', f"{place}:2", "at once"],
            ],
            "kept": [
                "2 apps have bound wl_output, and may use it as before until it ends"
            ],
        }
        shown = await bench.ask(SHOW)
        assert ["clipboard.direction", '"off"', f"{place}:2"] in shown["lines"]  # type: ignore[operator]
    assert [each.clipboard.direction for each in bench.obeyed] == [
        *(Direction.BOTH, Direction.OFF),
    ]
    assert "policy: clipboard.direction" in caplog.text


async def test_frames_that_stay_as_they_are_are_said(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        bench.file.write_text('[vm.work.policy]\nframe.colour = "red"\n')
        bench.framed_otherwise = 3
        told = await bench.ask(RELOAD)
        [[key, value, _, effect]] = cast("list[list[str]]", told["changed"])
        assert (key, value) == ("frame.colour", '"red"')
        assert effect.startswith("at once; whether there is a frame: for apps that")
        kept = "3 apps keep the frames that its windows had, or had not, until it ends"
        assert told["kept"] == [kept]


async def test_a_mistake_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        bench.file.write_text(OFF.replace("off", "of"))
        with pytest.raises(HostError, match=r"nothing is changed: .*:2: .*mean off\?"):
            await bench.ask(RELOAD)
        with pytest.raises(HostError, match="asked for show or reload"):
            await bench.ask("what?")
    assert not bench.obeyed


async def test_who_asks_nothing_keeps_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path) as bench:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(str(policy_path(bench.status)))
            silent.shutdown(socket.SHUT_WR)
            assert "lines" in await bench.ask(SHOW)


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no proxy answers for work"):
        ask_policy(tmp_path / "work.policy", SHOW)


async def test_a_place_that_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as bench:
        await serve_policy(bench.status, bench.keeper, VmLog("work"))
    await serve_policy(None, bench.keeper, VmLog("work"))
    assert "`wlproxy reload` will not work" in caplog.text


async def test_the_commands_ask_a_proxy_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "wlproxy").mkdir()

    async def call(words: str) -> Result:
        invoke = partial(CliRunner().invoke, cli.main, words)
        return await trio.to_thread.run_sync(invoke)

    async with serving(tmp_path / "wlproxy") as bench:
        with listen_at(bench.status, socket.SOCK_STREAM, "", ""):  # as `status` asks
            shown = await call("policy show work")
            assert 'clipboard.direction = "both"  # default' in shown.output
            assert "work: the policy is as it was" in (await call("reload")).output
            bench.file.write_text(OFF)
            said = (await call("reload --name work")).output.splitlines()
            assert (
                f'work: clipboard.direction = "off", at once  # {bench.file}:2' in said
            )
            assert any("2 apps have bound wl_output" in line for line in said)
            bench.file.write_text("wrong")
            wrong = await call("reload")
            assert wrong.exit_code == 1
            assert "nothing is changed" in wrong.output
            # What is asked of a file is not asked of the proxy.
            other = tmp_path / "other.toml"
            other.write_text("[vm.work.policy]\npointer.hide = 'off'\n")
            shown = await call(f"policy show work --config {other}")
            assert f'pointer.hide = "off"  # {other}:2' in shown.output
