"""What `wlproxy status` says of a machine's screens."""

import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from click.testing import CliRunner

from tests.screen.viewer_stage import staged
from tests.status_schema import judged
from wlproxy import cli
from wlproxy.host.errors import HostError
from wlproxy.host.policy_file import PolicySource
from wlproxy.host.policy_keeper import PolicyKeeper
from wlproxy.host.report.status_socket import (
    listen_screen,
    listen_status,
    read_all,
    running_names,
    serve_status,
    shown_names,
)
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.runtime_dir import listen_at, screen_policy_path
from wlproxy.relay.policy_tree import Policy
from wlproxy.screen import report as module
from wlproxy.screen.report import Scene, answer_policy, report

SCENE = Scene("vm", Path("/run/wayland-1"), isolated=True)


async def ask(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = await trio.to_thread.run_sync(read_all, path)
    return document


async def listening(path: Path) -> None:
    with trio.fail_after(20):
        while not path.with_suffix(".screen").exists():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.005)


async def test_the_screen_alone(tmp_path: Path) -> None:
    path = tmp_path / "wlproxy" / "vm.sock"
    async with staged(tmp_path) as stage, trio.open_nursery() as nursery:
        nursery.start_soon(report, path, SCENE, {0: stage.viewer})
        await listening(path)
        (before,) = judged(await ask(path))["screen"]["surfaces"]
        assert (before["mode"], before["frames"]) == ("none", 0)
        await stage.show(width=16, height=8)
        document = judged(await ask(path))
        (screen,) = document["screen"]["surfaces"]
        assert screen["title"] == "[vm] screen"
        assert (screen["width"], screen["height"]) == (16, 8)
        assert (screen["mode"], screen["bytes_copied"]) == ("A", 0)
        assert "nothing is copied" in screen["reason"]
        assert (screen["console"], screen["hidden"]) == (0, False)
        assert document["name"] == "vm"
        environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
        assert shown_names(environ) == ["vm"]
        assert running_names(environ) == []
        nursery.cancel_scope.cancel()
    assert not list(path.parent.iterdir())
    with pytest.raises(HostError, match="no proxy answers"):
        await ask(path)


async def test_beside_a_proxy(tmp_path: Path) -> None:
    path = tmp_path / "wlproxy" / "vm.sock"
    proxy = listen_status(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_status, proxy, lambda: {"state": "serving"}, dict)
        assert await ask(path) == {"state": "serving"}
        nursery.start_soon(report, path, SCENE, {})
        await listening(path)
        both = await ask(path)
        assert both["state"] == "serving"
        assert both["screen"]["compositor"] == "/run/wayland-1"
        nursery.cancel_scope.cancel()
    proxy.close()


async def test_it_waits_for_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LISTEN_AGAIN", 0.01)
    path = tmp_path / "wlproxy" / "vm.sock"
    other = listen_screen(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report, path, SCENE, {})
        await trio.testing.wait_all_tasks_blocked()
        other.close()
        await listening(path)
        assert (await ask(path))["name"] == "vm"
        nursery.cancel_scope.cancel()


async def test_it_answers_about_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LISTEN_AGAIN", 0.01)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = tmp_path / "wlproxy" / "vm.sock"
    file = tmp_path / "c.toml"
    file.write_text("")
    obeyed: list[Policy] = []
    groups = "clipboard", "primary"
    source = PolicySource("vm", file)
    keeper = PolicyKeeper(
        source, obeyed.append, lambda _: 0, lambda: 0, VmLog("vm"), groups
    )

    async def call(words: str) -> str:
        invoke = partial(CliRunner().invoke, cli.main, words)
        return (await trio.to_thread.run_sync(invoke)).output

    async with trio.open_nursery() as nursery:
        nursery.start_soon(report, path, SCENE, {})
        await listening(path)
        busy = screen_policy_path(path)
        with listen_at(busy, socket.SOCK_STREAM, "", ""):
            nursery.start_soon(answer_policy, path, keeper)
            await trio.testing.wait_all_tasks_blocked()
        busy.unlink()
        with trio.fail_after(20):
            while not busy.exists():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.005)
        assert "vm, screen: the policy is as it was" in await call("reload")
        file.write_text('[vm.vm.policy]\nclipboard.types = []\nwindows.icons = "off"\n')
        said = await call("reload --name vm")
        assert said == f"vm, screen: clipboard.types = [], at once  # {file}:2\n"
        assert obeyed[-1].clipboard.types == ()
        assert f"clipboard.types = []  # {file}:2" in await call("policy show vm")
        nursery.cancel_scope.cancel()
    assert "no proxy answers for vm" in await call("reload --name vm")
