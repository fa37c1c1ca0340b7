"""`wlproxy serve`: serves all VMs of the configuration file."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

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
from wlproxy.host.report.vm_log import logger, set_up_logging
from wlproxy.host.supervisor import Job, Supervisor
from wlproxy.transport.notify import notify


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="The TOML file.  [default: wlproxy/config.toml in $XDG_CONFIG_HOME]",
)
def serve(*, config: Path | None) -> None:
    """Serve every VM that has a table in the configuration file, each by a process of its own.

    SIGHUP has the file read again: VMs that are new are served, those that are gone no more, and
    those whose tables have changed anew.
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
    said = (file.table(DEFAULTS), file.table(VM, name))
    words = (*by_interpreter(), command, "--name", name)
    where = ("--config", str(file.path.absolute()))
    return Job(name, f"wlproxy {command}", (*words, *where), repr(said))


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
    supervisor.want(jobs)
    logger.info("read again: %s", ", ".join(dict.fromkeys(job.vm for job in jobs)))
