"""What the user is told about the globals that a compositor shows to guests."""

import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.peers.sandbox import SandboxingCompositor
from wlproxy.host.desktop.desktop import Desktop
from wlproxy.host.desktop.exposure import Exposure, remarks
from wlproxy.host.report.vm_log import VmLog
from wlproxy.relay.policy import ALLOWED_BY_DEFAULT

CAPTURE, CONTROL = "zwlr_screencopy_manager_v1", "ext_data_control_manager_v1"
ACTIVATION = "xdg_activation_v1"


@asynccontextmanager
async def looked_at(
    directory: Path,
    denied: Collection[str] = (),
    allow: Collection[str] = (),
    *,
    isolate: bool = True,
) -> AsyncIterator[Desktop]:
    """A desktop whose compositor denies this to clients of a security context."""
    path = directory / "wayland-0"
    there = Desktop(
        "test",
        str(path),
        VmLog("test"),
        policy={*ALLOWED_BY_DEFAULT, *allow},
        allow=allow,
        isolate=isolate,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(SandboxingCompositor(denied).run, path)
        await there.prepare()
        yield there
        there.close()
        nursery.cancel_scope.cancel()


def said(there: Desktop, level: int) -> str:
    return "\n".join(each.text for each in there.remarks if each.level == level)


async def test_what_is_allowed_in_vain_is_said_with_the_reason(tmp_path: Path) -> None:
    async with looked_at(
        tmp_path, {CONTROL}, (CONTROL, "zwlr_layer_shell_v1")
    ) as there:
        assert there.isolated
        denied, missing, _visible = said(there, logging.WARNING).split("\n")
    assert CONTROL in denied
    assert "security context" in denied
    assert "--no-security-context" in denied
    assert "zwlr_layer_shell_v1" in missing
    assert "does not have it" in missing


async def test_what_the_guest_loses_by_default_is_said_as_well(tmp_path: Path) -> None:
    async with looked_at(tmp_path, {ACTIVATION, CAPTURE, CONTROL}) as there:
        assert ACTIVATION in said(there, logging.INFO)
        assert CAPTURE not in said(there, logging.INFO)  # nobody wants it
        assert not said(there, logging.WARNING)


async def test_a_context_that_hides_nothing_but_itself_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with looked_at(tmp_path) as there:
        warned = said(there, logging.WARNING)
        assert CAPTURE in warned
        assert CONTROL in warned
        await there.prepare()
    assert caplog.text.count(warned) == 1  # although it was looked at again


async def test_the_context_can_be_left_out(tmp_path: Path) -> None:
    async with looked_at(tmp_path, {CONTROL}, (CONTROL,), isolate=False) as there:
        assert not there.isolated
        assert CONTROL in there.capabilities.global_versions
        warned = said(there, logging.WARNING)
    assert "has no effect" not in warned
    assert "--no-security-context" in warned
    assert CAPTURE in warned


def test_a_compositor_without_contexts_is_warned_of() -> None:
    exposure = Exposure({"wl_shm": 1}, {"wl_shm": 1}, "it has none")
    [remark] = remarks(exposure, ALLOWED_BY_DEFAULT, ())
    assert remark.level == logging.WARNING
    assert "it has none" in remark.text
