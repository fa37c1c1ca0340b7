"""Real libvirts: a user's own, and one of the system, each with directories of its own.

The system's runs in a mount namespace, where its usual directories are temporary ones, so that no
libvirt of this machine is touched.  QEMU is another user there.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab.host_setup import find_program
from lab.weston import Weston as WestonProgram

TREE = Path(__file__).parents[3]
SECONDS = 60
"""For a program to be ready, on a busy machine."""
NOBODY = 65534
DAEMON = 1
"""User and group that the system's QEMU has here."""

DOMAIN = """\
<domain type='qemu'>
  <name>{name}</name>
  {memory}
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>{boot}</os>
  <features><acpi/></features>
  {more}
  <devices>
    <emulator>{qemu}</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    {devices}
  </devices>
</domain>
"""

NAMESPACE = """\
mount --bind $1/passwd /etc/passwd
mount --bind $1/group /etc/group
for each in etc run lib cache log; do
    case $each in
        etc) place=/etc/libvirt;;
        run) place=/run/libvirt;;
        *) place=/var/$each/libvirt;;
    esac
    mkdir -p $place && mount --bind $1/$each $place || exit 1
done
# libvirt asks QEMU as root, and again and again if its user finds another /dev/kvm than root.
if [ -e /dev/kvm ]; then
    mknod -m 666 $1/kvm c 10 232 && mount --bind $1/kvm /dev/kvm
fi
exec $2
"""


def eventually(
    check: Callable[[], object], what: str, seconds: float = SECONDS
) -> None:
    """Look until something is so."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


class Program:
    """A program that runs, and what it says."""

    def __init__(self, words: list[str], environ: dict[str, str], log: Path) -> None:
        self.log = log
        self._heard = 0
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                words,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_said(self, words: str) -> None:
        """Wait until it says something that it had not said before."""

        def said() -> bool:
            text = self.log.read_text(errors="replace")
            found = text.find(words, self._heard)
            if found >= 0:
                self._heard = found + len(words)
            assert found >= 0 or self.process.poll() is None, text
            return found >= 0

        try:
            eventually(said, words)
        except AssertionError:
            pytest.fail(f"it never said {words!r}:\n{self.log.read_text()}")

    def wait_socket(self, path: Path) -> None:
        """Wait until it listens."""
        eventually(path.is_socket, f"{path} is there")
        assert self.process.poll() is None, self.log.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(SECONDS)


class Libvirt:
    """A libvirt, and the user who has a desktop beside it.

    Attributes:
        uri: as virsh has it.
        directory: the user's runtime directory.
    """

    def __init__(self, uri: str, directory: Path, user: int) -> None:
        self.uri = uri
        self.directory = directory
        self._user = user
        self._programs: list[Program] = []
        self._count = 0

    @property
    def environ(self) -> dict[str, str]:
        packages = [path for path in sys.path if path.endswith("site-packages")]
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "XDG_RUNTIME_DIR": str(self.directory),
            "WAYLAND_DISPLAY": "wl-test",
            "LC_ALL": "C",
            "PYTHONPATH": os.pathsep.join([str(TREE), *packages]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def as_user(self, words: tuple[str, ...]) -> list[str]:
        if self._user == os.geteuid():
            return list(words)
        ids = [f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups"]
        return ["setpriv", *ids, *words]

    @property
    def _python(self) -> str:
        """A Python that the user may run, and that may run itself."""
        itself = (
            "import sys, subprocess as s; s.run([sys.executable, '-c', ''], check=True)"
        )
        version = f"python3.{sys.version_info.minor}"
        for program in (sys.executable, f"/usr/bin/{version}"):
            words = self.as_user((program, "-c", f"import wlproxy.cli; {itself}"))
            done = subprocess.run(
                words, env=self.environ, capture_output=True, check=False
            )
            if done.returncode == 0:
                return program
        pytest.skip(f"the libvirt's user can run no {version}")

    def start(self, *words: str) -> Program:
        """Start a program of the user's."""
        self._count += 1
        log = self.directory / f"{Path(words[0]).name}-{self._count}.log"
        program = Program(self.as_user(words), self.environ, log)
        self._programs.append(program)
        return program

    def wlproxy(self, *words: str) -> Program:
        return self.start(self._python, "-m", "wlproxy", *words)

    def run(self, *words: str, status: int = 0, given: str = "") -> str:
        """Run a command of wlproxy's to its end."""
        done = subprocess.run(
            self.as_user((self._python, "-m", "wlproxy", *words)),
            env=self.environ,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def virsh(self, *words: str, given: str = "") -> str:
        """Run a command of virsh's; FILE in it is one that has the given text."""
        file = self.directory / "given.xml"
        file.write_text(given)
        words = tuple(str(file) if each == "FILE" else each for each in words)
        done = subprocess.run(
            self.as_user(("virsh", "-q", "-c", self.uri, *words)),
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=2 * SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"virsh {words}: {done.stdout}"
        return done.stdout

    def define(
        self,
        name: str,
        *,
        memory: str = "<memory unit='MiB'>64</memory>",
        more: str = "",
        devices: str = "",
        boot: str = "",
    ) -> None:
        xml = DOMAIN.format(
            name=name,
            memory=memory,
            more=more,
            devices=devices,
            boot=boot,
            qemu=shutil.which("qemu-system-x86_64"),
        )
        self.virsh("define", "FILE", given=xml)

    def pid(self, name: str) -> int:
        """Find the QEMU of a domain."""
        for each in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if f"guest={name}," in each.read_text(errors="replace"):
                    return int(each.parent.name)
        raise AssertionError(f"{name} does not run")

    def owner(self, name: str) -> int:
        """Say which user the QEMU of a domain is."""
        status = Path(f"/proc/{self.pid(name)}/status").read_text()
        return int(status.partition("Uid:")[2].split()[0])

    def forget(self, name: str) -> None:
        """End a domain and what was started for it."""
        while self._programs:
            self._programs.pop().end()
        if self.virsh("domstate", name).strip() != "shut off":
            self.virsh("destroy", name)
        self.virsh("undefine", name)


def make_directory(user: int) -> Path:
    """Make a directory where a user's sockets are: short, and not below another's."""
    directory = Path(tempfile.mkdtemp(prefix="wl-"))
    directory.chmod(0o755)
    os.chown(directory, user, user)
    return directory


def start_weston(libvirt: Libvirt) -> Program:
    size = (640, 480)
    words = WestonProgram().command("pixman", "desktop", size, "wl-test")
    return Program(
        libvirt.as_user((*words, "--no-config")),
        libvirt.environ,
        libvirt.directory / "weston.log",
    )


def serve(libvirt: Libvirt, daemon: list[str]) -> Iterator[Libvirt]:
    """Have a libvirt, and a compositor, for as long as a fixture lasts."""
    program = Program(daemon, libvirt.environ, libvirt.directory / "libvirtd.log")
    weston = start_weston(libvirt)
    try:
        wayland = libvirt.directory / "wl-test"
        eventually(wayland.exists, "weston is up")

        def answers() -> bool:
            assert program.process.poll() is None, program.log.read_text()
            words = libvirt.as_user(("virsh", "-c", libvirt.uri, "version"))
            return not subprocess.run(
                words, env=libvirt.environ, capture_output=True, check=False
            ).returncode

        eventually(answers, "libvirtd answers")
        yield libvirt
    finally:
        weston.end()
        program.end()
        shutil.rmtree(libvirt.directory, ignore_errors=True)


def libvirtd() -> str:
    program = find_program("libvirtd")
    missing = [] if program else ["libvirt-daemon", "libvirt-daemon-driver-qemu"]
    missing += [] if shutil.which("virsh") else ["libvirt-clients"]
    missing += [] if shutil.which("qemu-system-x86_64") else ["qemu-system-x86"]
    missing += [] if shutil.which("weston") else ["weston"]
    if missing or program is None:
        pytest.skip(f"needs apt-get install {' '.join(missing)}")
    return program


@pytest.fixture(scope="module")
def session() -> Iterator[Libvirt]:
    """qemu:///session of an ordinary user's."""
    daemon = libvirtd()
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    libvirt = Libvirt("qemu:///session", make_directory(user), user)
    yield from serve(libvirt, libvirt.as_user((daemon,)))


@pytest.fixture(scope="module")
def system() -> Iterator[Libvirt]:
    """qemu:///system, whose QEMU is another user than that of the desktop."""
    daemon = libvirtd()
    if os.geteuid() != 0:
        pytest.skip("needs root, to start the system's libvirt")
    directory = make_directory(0)
    place = directory / "system"
    for name in ("etc", "run", "lib", "cache", "log"):
        (place / name).mkdir(parents=True)
    (place / "etc" / "qemu.conf").write_text(
        f'user = "+{DAEMON}"\ngroup = "+{DAEMON}"\nstdio_handler = "file"\n'
    )
    # libvirt wants its usual user to be there, though it is not used.
    for name, line in (
        ("passwd", "libvirt-qemu:x:64055:64055::/nonexistent:/usr/sbin/nologin\n"),
        ("group", "libvirt-qemu:x:64055:\n"),
    ):
        (place / name).write_text(Path("/etc", name).read_text() + line)
    words = ["unshare", "--mount", "--propagation", "private"]
    words += ["sh", "-ec", NAMESPACE, "sh", str(place), daemon]
    libvirt = Libvirt(f"qemu:///system?socket={place}/run/libvirt-sock", directory, 0)
    yield from serve(libvirt, words)
