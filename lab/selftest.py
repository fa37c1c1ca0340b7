"""``lab selftest``: checks that the lab's machines work.

It runs one script in the host VM and one in the host VM with the guest, both restored
from their templates, and checks what comes back.
"""

import tempfile
import time
from pathlib import Path

from lab import runner
from lab.errors import LabError
from lab.say import say

HOST = """
import os, socket, stat, time
from pathlib import Path

assert stat.S_ISCHR(os.stat("/dev/udmabuf").st_mode)
for name in ("wl-pixman", "wl-gl"):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(os.path.join(os.environ["XDG_RUNTIME_DIR"], name))
assert abs(time.time() - float(os.environ["SELFTEST_TIME"])) < 1800, "stale clock"
import lab, trio, pywayland
assert lab.__file__.startswith("/work/wlproxy"), lab.__file__
Path(os.environ["WLPROXY_OUT"], "sub").mkdir()
Path(os.environ["WLPROXY_OUT"], "sub", "answer").write_text("42")
print("host good", flush=True)
"""
GUEST = """
import os, time
from lab.guest import Guest

with Guest() as guest:
    data = os.urandom(3_000_000)
    guest.put("/tmp/some/where", data, 0o600)
    assert guest.get("/tmp/some/where") == data
    done = guest.run(["sh", "-c", "id -un; exit 3"], user="lab")
    assert (done.returncode, done.stdout) == (3, b"lab\\n"), done
    pid = guest.spawn(["sleep", "1000"])
    assert guest.alive(pid)
    guest.kill(pid)
    assert guest.wait(pid) == -15
    assert not guest.alive(pid)
    assert abs(float(guest.run(["date", "+%s"]).stdout) - time.time()) < 60
with Guest() as guest:
    assert guest.run(["true"]).ok, "no second session"
    links = [os.readlink(f"/proc/{guest.pid}/fd/{fd}")
             for fd in os.listdir(f"/proc/{guest.pid}/fd")]
    assert any("memory-backend-memfd" in link for link in links), "RAM is no memfd"
print("guest good", flush=True)
"""


def selftest(*, template: bool = True) -> None:
    """Check the lab.

    Raises:
        LabError: it does not do what it should.
    """
    with tempfile.TemporaryDirectory(prefix="wlproxy-lab-") as name:
        out = Path(name) / "out"
        env = {"SELFTEST_TIME": str(time.time())}
        command = ["python3", "-c", HOST]
        job = runner.Job(command, out=out, template=template, env=env, timeout=120)
        if runner.run(job) != 0:
            raise LabError("the host machine is no good")
        if (out / "sub" / "answer").read_text() != "42":
            raise LabError("files do not come back")
        command = ["python3", "-c", GUEST]
        job = runner.Job(command, guest=True, template=template, timeout=180)
        if runner.run(job) != 0:
            raise LabError("the guest is no good")
        job = runner.Job(["sh", "-c", "sleep 60"], template=template, timeout=3)
        say("a command that takes too long, to see the diagnostics:")
        if runner.run(job) != runner.TIMED_OUT:
            raise LabError("the time limit does not work")
    say("selftest good")
