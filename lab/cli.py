"""The lab's command line."""

import argparse
import math
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import host_setup, images, paths, recipe, runner, selftest, xen_machine
from lab.errors import LabError
from lab.say import say


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status."""
    # As for Ctrl-C: the machine's directory is to be removed.  QEMU dies in any case.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    own, command = split(list(sys.argv[1:] if argv is None else argv))
    arguments = _parser().parse_args(own)
    arguments.argv = command
    try:
        return int(arguments.run(arguments) or 0)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return runner.BROKEN
    except KeyboardInterrupt:
        return 130


FLAGS = {"--debug-kernel", "--guest", "--no-template", "--pytest", "-h", "--help"}
VALUED = {"--timeout", "--out", "--env", "--host"}


def split(argv: list[str]) -> tuple[list[str], list[str]]:
    """Split a command line into the lab's own part and the command to run.

    The command begins at ``--``, or at the first word that is no option of the lab's:
    from there on, every word belongs to it, whatever it looks like.
    """
    if argv[:1] not in (["run"], ["pytest"], ["xen"]):
        return argv, []
    position = 1
    while position < len(argv):
        word = argv[position]
        if word == "--":
            return argv[:position], argv[position + 1 :]
        if word in VALUED:
            position += 2
        elif word in FLAGS or word.partition("=")[0] in VALUED:
            position += 1
        else:
            break
    return argv[:position], argv[position:]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str, run: object) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    command("setup", "install what this machine lacks, through apt", _setup)

    def add_host(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--host",
            choices=sorted(recipe.HOSTS),
            default=recipe.HOST_IMAGE.suite,
            help="the Debian release that plays the host",
        )

    sub = command("build", "build the images that are not in the cache", _build)
    sub.add_argument(
        "--host",
        action="append",
        choices=sorted(recipe.HOSTS),
        help="the Debian release that plays the host; once for each that shall be there",
    )
    sub.add_argument("--xen", action="store_true", help="the image that has Xen, too")
    for name, text, run in (
        ("run", "run a command in the lab", _run),
        ("pytest", "run pytest in the lab", _pytest),
        ("xen", "run a command in dom0 of the machine that runs Xen", _xen),
    ):
        sub = command(name, text, run)
        if name == "xen":
            sub.add_argument(
                "--pytest",
                action="store_true",
                help="the command is pytest's arguments",
            )
            sub.add_argument(
                "--debug-kernel",
                action="store_true",
                help="PVH domains have the kernel that looks for faults, which is built once",
            )
        else:
            sub.add_argument(
                "--guest", action="store_true", help="with the guest booted"
            )
            add_host(sub)
        sub.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
        sub.add_argument("--out", type=Path, help="where to put files left in /out")
        sub.add_argument(
            "--no-template", action="store_true", help="boot, do not restore"
        )
        sub.add_argument(
            "--env", action="append", default=[], metavar="NAME=VALUE", help="set it"
        )
        sub.usage = f"{sub.prog} [options] [--] ARGUMENT..."
    sub = command("selftest", "check that the lab works", _selftest)
    sub.add_argument("--no-template", action="store_true", help="boot, do not restore")
    command("status", "say what is in the cache", _status)
    command("clean", "remove the images, kernels and frozen machines", _clean)
    return parser


def _setup(_: argparse.Namespace) -> None:
    host_setup.setup()
    say("everything is installed")


def _build(arguments: argparse.Namespace) -> None:
    with runner.exclusive():
        host_setup.setup()
        hosts = arguments.host or [recipe.HOST_IMAGE.suite]
        images.build([recipe.HOSTS[host] for host in hosts])
        if arguments.xen:
            images.build([recipe.XEN_IMAGE], [])


def _job(
    arguments: argparse.Namespace, *, pytest: bool, xen: bool = False
) -> runner.Job:
    if not arguments.argv and not pytest:
        raise LabError("run what?")
    return runner.Job(
        argv=arguments.argv,
        pytest=pytest,
        guest=arguments.guest,
        xen=xen,
        host=arguments.host,
        timeout=arguments.timeout,
        silence=runner.TEST_SILENCE if pytest else math.inf,
        out=arguments.out,
        template=not arguments.no_template,
        env=dict(each.split("=", 1) for each in arguments.env),
    )


def _run(arguments: argparse.Namespace) -> int:
    return runner.run(_job(arguments, pytest=False))


def _pytest(arguments: argparse.Namespace) -> int:
    return runner.run(_job(arguments, pytest=True))


def _xen(arguments: argparse.Namespace) -> int:
    arguments.guest, arguments.host = False, recipe.XEN_IMAGE.suite
    job = _job(arguments, pytest=arguments.pytest, xen=True)
    if arguments.debug_kernel:
        job.files.update(xen_machine.debug_files())
    return runner.run(job)


def _selftest(arguments: argparse.Namespace) -> None:
    selftest.selftest(template=not arguments.no_template)


def _status(_: argparse.Namespace) -> None:
    print(f"cache: {paths.cache()}")
    missing = host_setup.missing()
    print(f"missing packages: {' '.join(missing) or 'none'}")
    for kind in ("images", "templates"):
        for path in sorted((paths.cache() / kind).glob("*")):
            print(f"{kind[:-1]}: {path.name}  {_size(path) >> 20} MiB")


def _size(path: Path) -> int:
    """Add up what is allocated; a template may be removed at the same time."""
    # Not rglob: it raises for a directory that goes away under it.
    found = [Path(where, name) for where, _, names in os.walk(path) for name in names]
    return sum(_allocated(file) for file in found or [path])


def _allocated(file: Path) -> int:
    try:
        return file.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _clean(_: argparse.Namespace) -> None:
    with runner.exclusive():
        for each in paths.cache().iterdir():
            if each.is_dir():
                shutil.rmtree(each, ignore_errors=True)
    say("removed the images, kernels and frozen machines")
