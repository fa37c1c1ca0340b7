"""Checks whether a VM has everything that its windows need, as `wlproxy run` would come to know it.

Where a proxy serves the VM already, that is asked: there is one channel, and one place at its end.  Else
the channel is taken for a moment: the RAM is found, and the agent proves that it is its own.
"""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import trio

from wlproxy.host.channel.wires import make_wire
from wlproxy.host.config import HostConfig
from wlproxy.host.doctor import Finding, Verdict, problem
from wlproxy.host.errors import HostError
from wlproxy.host.link import Link
from wlproxy.host.page_sources import page_source
from wlproxy.host.pages import PageProvider, PageSource, find_pages
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.progress import State
from wlproxy.host.report.status_socket import read_status
from wlproxy.host.report.vm_log import VmLog, plain
from wlproxy.host.runtime_dir import is_alive
from wlproxy.protocol.channel.frames import CloseReason, Feature
from wlproxy.protocol.errors import WlproxyError

CHANNEL_SECONDS: Final = 5.0
"""For the VM to be at the other end of the channel; one that connects to us retries each second."""
RAM_SECONDS: Final = 10.0
AGENT_SECONDS: Final = 15.0
"""For an agent to answer.  A busy guest takes seconds."""


async def examine_vm(
    config: HostConfig, provide_pages: PageProvider | None = None
) -> list[Finding]:
    """Run every check of a VM, as far as it gets; raises nothing of its own.

    Args:
        config: that of its proxy.
        provide_pages: finds the guest's pages; by default as its proxy does.
    """
    if config.status is not None and is_alive(config.status, socket.SOCK_STREAM):
        try:
            document = await trio.to_thread.run_sync(read_status, config.status)
        except HostError as exc:
            return [problem("proxy", exc)]
        return _served(document)
    findings: list[Finding] = []
    try:
        async with _connected(config) as link:
            findings.append(_fine("channel", f"the VM is at {config.channel}"))
            await _examine(link, config, provide_pages, findings)
    except HostError as exc:
        findings.append(problem("channel", exc))
    return findings


@asynccontextmanager
async def _connected(config: HostConfig) -> AsyncIterator[Link]:
    """Connect to the VM.

    Raises:
        HostError: it is not there, or the channel is somebody else's.
    """
    locks = config.status.parent if config.status is not None else None
    with make_wire(config.channel, locks, config.name) as wire:
        wire.claim()
        stream = None
        with trio.move_on_after(CHANNEL_SECONDS):
            stream = await wire.open(VmLog(config.name))
        if stream is None:
            raise HostError(
                f"no VM is at {config.channel}",
                remedy="Start it, with the options that `wlproxy qemu-args --name "
                f"{config.name}` prints.",
            )
        async with stream:
            with wire.held():
                yield Link(stream, Metrics(), config.features)


async def _examine(
    link: Link,
    config: HostConfig,
    provide_pages: PageProvider | None,
    findings: list[Finding],
) -> None:
    """Look for the RAM, and whether an agent proves it."""
    pages = None
    provide = provide_pages or partial(page_source, config, lambda: None)
    try:
        with trio.move_on_after(RAM_SECONDS):
            pages = await find_pages(provide, link.stream, VmLog(config.name))
        if pages is None:
            raise HostError(  # noqa: TRY301 - as others that are found there
                f"the guest's RAM was not found within {RAM_SECONDS:.0f} s",
                remedy="Has the guest booted? With `wlproxy ram-tap`, its driver tells.",
            )
    except HostError as exc:
        findings.append(problem("guest RAM", exc))
        return
    try:
        vmm = pages.vmm
        of = f", of process {vmm.pid} ({plain(vmm.program)})" if vmm.pid else ""
        findings.append(_fine("guest RAM", f"{pages}{of}"))
        async for finding in _ask_agent(link, config, pages):
            findings.append(finding)  # noqa: PERF401 - what comes before an error counts
    except HostError as exc:
        findings.append(problem("guest agent", exc))
    except WlproxyError as exc:
        findings.append(Finding("guest agent", Verdict.PROBLEM, plain(str(exc))))
    finally:
        pages.close()


async def _ask_agent(
    link: Link, config: HostConfig, pages: PageSource
) -> AsyncIterator[Finding]:
    """Have the agent say what it is, and prove the RAM."""
    agent = None
    with trio.move_on_after(AGENT_SECONDS):
        agent = await link.establish(config.max_clients, pages.features)
    if agent is None:
        silence = f"it did not answer within {AGENT_SECONDS:.0f} s"
        remedy = "In the guest, `wlproxy-guest-agent doctor` says why."
        yield Finding("guest agent", Verdict.PROBLEM, silence, remedy)
        return
    yield _fine("guest agent", plain(agent.agent))
    if Feature.LOCATE_DMABUF in agent.features:
        yield _fine("GPU buffers", "the agent locates dma-bufs")
    else:
        without = "apps have none: the agent has no module gem_locate"
        remedy = (
            "To have them, install kernel/udmabuf of wlproxy's sources in the guest."
        )
        yield Finding("GPU buffers", Verdict.OK, without, remedy)
    await link.prove_ram(pages)
    yield _fine("proof", "the RAM that was found is this guest's")
    await link.say_goodbye(CloseReason.NORMAL, "wlproxy doctor has looked")


def _served(document: dict[str, Any]) -> list[Finding]:
    """Say what the proxy that serves a VM says."""
    state, hint = str(document["state"]), str(document["hint"])
    serving = state == State.SERVING.value
    findings = [
        Finding(
            "proxy",
            Verdict.OK if serving else Verdict.WARNING,
            f"wlproxy run is {state}",
            "" if serving else hint,
        )
    ]
    if document["agent"]:
        findings.append(_fine("guest agent", plain(str(document["agent"]))))
    shown = [each for each in document["surfaces"] if each["frames"]]
    copied = {str(each["reason"]) for each in shown if each["mode"] == "C"}
    if copied:
        why = f"some windows are copied: {'; '.join(sorted(map(plain, copied)))}"
        findings.append(Finding("windows", Verdict.WARNING, why))
    elif serving:
        findings.append(_fine("windows", f"{len(shown)} surfaces, without a copy"))
    return findings


def _fine(subject: str, explanation: str) -> Finding:
    return Finding(subject, Verdict.OK, explanation)
