"""`wlproxy serve`: serves all VMs of the configuration file."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click
import trio

from wlproxy.commands.config import check_file
from wlproxy.commands.configured import TABLES
from wlproxy.commands.failure import fail
from wlproxy.commands.program import by_interpreter
from wlproxy.host.config_file import (
    DEFAULTS,
    VM,
    ConfigFile,
    ConfigFileError,
    default_path,
)
from wlproxy.host.errors import HostError
from wlproxy.host.policy_file import POLICY
from wlproxy.host.policy_keeper import RELOAD, ask_policy
from wlproxy.host.report.vm_log import logger, set_up_logging
from wlproxy.host.runtime_dir import policy_path, status_path, table_path
from wlproxy.host.supervisor import Job, Supervisor
from wlproxy.transport.notify import notify

READ_AGAIN: Final = (POLICY, "allow", "deny")
"""What a proxy takes from the file while it runs."""


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The TOML file.  [default: wlproxy/config.toml in $XDG_CONFIG_HOME]",
)
def serve(*, config: Path | None) -> None:
    """Serve every VM that has a table in the configuration file, each by a process of its own.

    SIGHUP has the file read again: VMs that are new are served, those that are gone no more, and
    those whose tables have changed anew.  If only their policy has, they go by it without.
    """
    set_up_logging("info")
    path = config or default_path(os.environ)
    try:
        jobs = wanted(path)
    except HostError as exc:
        fail(exc)
    trio.run(serve_jobs, jobs, lambda: wanted(path))


def wanted(path: Path) -> list[Job]:
    """Say what is to run for the VMs of a configuration file.

    Raises:
        HostError: it cannot be read, is wrong, or has no VM.
    """
    file = ConfigFile.read(path)
    if not file.vms:
        raise ConfigFileError(
            f"{path} has no VM",
            remedy="Add a table for each: [vm.NAME], with options of `wlproxy run`.",
        )
    check_file(file)
    jobs = []
    for name in file.vms:
        for command, table in TABLES.items():
            # What a VM is served by, but for `run`, is served if it has a table.
            if not table or file.table(VM, name, *table):
                jobs.append(_job(file, name, command))
    return jobs


def _job(file: ConfigFile, name: str, command: str) -> Job:
    # What a proxy reads again by itself is no reason to start another one.
    said = [
        {key: each for key, each in table.items() if key not in READ_AGAIN}
        for table in (file.table(DEFAULTS), file.table(VM, name))
    ]
    words = (*by_interpreter(), command, "--name", name)
    where = ("--config", str(file.path.absolute()))
    tap = _tap(file, name) if command == "run" else ()
    return Job(name, f"wlproxy {command}", (*words, *where, *tap), repr(said))


def _tap(file: ConfigFile, name: str) -> tuple[str, ...]:
    """Tell a proxy of the tap that is served beside it, and may start later.

    A proxy that knows of one from the start can confine itself.

    Raises:
        HostError: XDG_RUNTIME_DIR is not set.
    """
    if not file.table(VM, name, *TABLES["ram-tap"]):
        return ()
    if any("ram-tap" in file.table(*table) for table in ((DEFAULTS,), (VM, name))):
        return ()
    return ("--ram-tap", str(table_path(os.environ, name)))


async def serve_jobs(jobs: Sequence[Job], read: Callable[[], Sequence[Job]]) -> None:
    """Run jobs until a signal says that it is enough."""
    with trio.open_signal_receiver(
        signal.SIGTERM, signal.SIGINT, signal.SIGHUP
    ) as signals:
        async with trio.open_nursery() as nursery:  # noqa: TID251
            supervisor = Supervisor(nursery)
            supervisor.want(jobs)
            notify("READY=1")
            async for number in signals:
                if number != signal.SIGHUP:
                    break
                _reload(supervisor, read)
            logger.info("stopping")
            notify("STOPPING=1")
            nursery.cancel_scope.cancel()


def _reload(supervisor: Supervisor, read: Callable[[], Sequence[Job]]) -> None:
    """Run what the file says now; if it is wrong, all stays as it is."""
    try:
        jobs = read()
    except HostError as exc:
        logger.error("nothing is changed: %s", exc)
        return
    running = set(supervisor.jobs)
    supervisor.want(jobs)
    for job in jobs:
        if job in running and "run" in job.command:
            _reload_policy(job)
    logger.info("read again: %s", ", ".join(dict.fromkeys(job.vm for job in jobs)))


def _reload_policy(job: Job) -> None:
    """Have a proxy that runs read its policy again; it logs what follows."""
    try:
        ask_policy(policy_path(status_path(os.environ, job.vm)), RELOAD)
    except HostError as exc:
        logger.error("%s: its policy stays as it is: %s", job.vm, exc)
