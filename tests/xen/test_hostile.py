"""Users who ask the module for what is not to be had: it answers, counts, and goes on."""

import subprocess

import pytest

from lab import xen_guest
from tests.xen.domain import NOTHING, Domain

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # a domU may have to be booted
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]

REFUSED = {
    "no descriptor": ("pages, at, -1, 0, PAGE", "EBADF"),
    "closed descriptor": ("pages, at, 999, 0, PAGE", "EBADF"),
    "a directory": ("pages, at, os.open('/', os.O_RDONLY), 0, PAGE", "EBADFD"),
    "a file of a disk": (
        "pages, at, os.open('/etc/passwd', os.O_RDWR), 0, PAGE",
        "EBADFD",
    ),
    "a pipe": ("pages, at, os.pipe()[0], 0, PAGE", "EBADFD"),
    "a device": ("pages, at, os.open('/dev/zero', os.O_RDWR), 0, PAGE", "EBADFD"),
    "the device itself": ("pages, at, at, 0, PAGE", "EBADFD"),
    "an object of its own": ("pages, at, grant(at, fd, 0, PAGE)[0], 0, PAGE", "EBADFD"),
    "open for reading only": (
        "pages, at, os.open(f'/proc/self/fd/{fd}', os.O_RDONLY), 0, PAGE",
        "EACCES",
    ),
    "sealed against writing": ("pages, at, sealed, 0, PAGE", "EPERM"),
    "nothing": ("pages, at, fd, 0, 0", "EINVAL"),
    "half a page": ("pages, at, fd, 0, PAGE // 2", "EINVAL"),
    "from within a page": ("pages, at, fd, 1, PAGE", "EINVAL"),
    "behind the end": ("pages, at, fd, 4 * PAGE, PAGE", "EINVAL"),
    "across the end": ("pages, at, fd, 3 * PAGE, 2 * PAGE", "EINVAL"),
    "far away": ("pages, at, fd, 2**64 - PAGE, PAGE", "EINVAL"),
    "around": ("pages, at, fd, 2**64 - PAGE, 2 * PAGE", "EINVAL"),
    "endless": ("pages, at, fd, 0, 2**64 - PAGE", "EINVAL"),
    "behind a dma-buf": ("pages, at, buf, 4 * PAGE, PAGE", "EINVAL"),
    "around a dma-buf": ("pages, at, buf, 2**64 - PAGE, 2 * PAGE", "EINVAL"),
    "endless, of a dma-buf": ("pages, at, buf, 0, 2**64 - PAGE", "EINVAL"),
    "a flag": ("pages, at, fd, 0, PAGE, 1, 0, 0", "EINVAL"),
    "a count": ("pages, at, fd, 0, PAGE, 0, 1, 0", "EINVAL"),
    "what is reserved": ("pages, at, fd, 0, PAGE, 0, 0, 1", "EINVAL"),
    "a million references": ("pages, at, large, 0, 2**20 * PAGE", "EDQUOT"),
    "more than all": ("pages, at, larger, 0, 2**30 * PAGE", "EDQUOT"),
    "no request": ("fcntl.ioctl, at, PAGES, 0", "EFAULT"),
    "nowhere to count": ("fcntl.ioctl, at, COUNTS, 0", "EFAULT"),
    "nowhere to inform": ("fcntl.ioctl, at, INFO, 0", "EFAULT"),
    "runs of the device": ("runs, at, 1", "ENOTTY"),
    "pages of an object": ("pages, grant(at, fd, 0, PAGE)[0], fd, 0, PAGE", "ENOTTY"),
    "something else": ("fcntl.ioctl, at, 0xC0207760, bytearray(32)", "ENOTTY"),
    "runs to nowhere": (
        "fcntl.ioctl, grant(at, fd, 0, PAGE)[0], RUNS, struct.pack('=QII', 1, 1, 0)",
        "EFAULT",
    ),
    "runs with more": (
        "fcntl.ioctl, grant(at, fd, 0, PAGE)[0], RUNS, struct.pack('=QII', 0, 0, 1)",
        "EINVAL",
    ),
}

SETUP = """
before = descriptors()
at, fd, buf = device(), memfd(4 * PAGE), heap(4 * PAGE)
sealed, large, larger = memfd(PAGE), memfd(2**20 * PAGE), memfd(2**30 * PAGE)
fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
"""
CLOSE_ALL = """
for each in descriptors() - before: os.close(each)
"""


def test_refusals(domain: Domain) -> None:
    answers = domain.python(f"""
{SETUP}
result = {{}}
for name, call in {[(name, call) for name, (call, _) in REFUSED.items()]}:
    what, *arguments = eval(f"({{call}},)")
    result[name] = refused(what, *arguments)
{CLOSE_ALL}
""")
    assert answers == {name: error for name, (_, error) in REFUSED.items()}
    assert domain.counts() == NOTHING


def test_what_is_refused_again_and_again_costs_nothing(domain: Domain) -> None:
    domain.python(f"""
{SETUP}
for n in range(1000):
    assert refused(pages, at, large, 0, 2**20 * PAGE) == "EDQUOT"
    assert refused(pages, at, fd, 3 * PAGE, 2 * PAGE) == "EINVAL"
    assert refused(pages, at, sealed, 0, PAGE) == "EPERM"
assert counts() == [0, 0, 0, 0]
{CLOSE_ALL}
""")


def test_what_is_granted_again_and_again_is_taken_back(domain: Domain) -> None:
    # More than the table has room for, if any were lost.
    domain.python(f"""
{SETUP}
big = memfd(512 * PAGE)
for n in range(100):
    os.close(grant(at, big, 0, 512 * PAGE)[0])
assert counts() == [0, 0, 0, 0]
{CLOSE_ALL}
""")


def test_the_quotas(domain: Domain) -> None:
    found = domain.python(f"""
{SETUP}
def limited(name, value, call):
    path = f"/sys/module/gem_grant/parameters/{{name}}"
    was = open(path).read()
    open(path, "w").write(str(value))
    try: return call()
    finally: open(path, "w").write(was)
def until_refused(at, length):
    held, error = [], None
    while len(held) < 10 and error is None:
        try: held.append(pages(at, fd, 0, length)[0])
        except OSError as e: error = errno.errorcode[e.errno]
    for each in held: os.close(each)
    return [len(held), error]
other = device()
holding = pages(other, fd, 0, PAGE)[0]
fd = memfd(2 * 2**20)
result = [
    limited("max_objects", 3, lambda: until_refused(at, PAGE)),
    limited("max_mb", 5, lambda: until_refused(at, 2 * 2**20)),
    limited("max_refs", 8, lambda: until_refused(at, 2 * PAGE)),
    limited("max_objects", 0, lambda: until_refused(at, PAGE)),
]
{CLOSE_ALL}
""")
    # What another open file holds counts for the last but one alone.
    assert found == [[3, "EDQUOT"], [2, "EDQUOT"], [3, "EDQUOT"], [0, "EDQUOT"]]


def test_locked_memory_is_limited_for_who_is_not_root(domain: Domain) -> None:
    shown = domain.python(f"""
import resource, signal
{SETUP}
fd = memfd(16 * PAGE)
read, write = os.pipe()
child = os.fork()
if not child:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (8 * PAGE, 8 * PAGE))
    os.setgid(1000); os.setuid(1000)
    said = [refused(pages, at, fd, 0, n * PAGE) for n in (9, 8, 1)]
    try: device(); said.append(None)
    except OSError as e: said.append(errno.errorcode[e.errno])
    os.write(write, json.dumps(said).encode())
    os._exit(0)
os.waitpid(child, 0)
result = json.loads(os.read(read, 1000))
{CLOSE_ALL}
""")
    # And who is not of the agent's group cannot open the device at all.
    assert shown == ["ENOMEM", None, "ENOMEM", "EACCES"]


def test_the_device_is_for_the_agents_group(domain: Domain) -> None:
    assert domain.shell("stat -c '%U %G %a' /dev/gem-grant") == "root wlproxy 660\n"
    version, domid = domain.python("""
at = device()
out = bytearray(8)
fcntl.ioctl(at, INFO, out)
os.close(at)
result = struct.unpack("=II", out)
""")
    assert (version, domid) == (1, 0)
    # Whom pages are given to is fixed when the module is loaded.
    mode = domain.shell("stat -c %a /sys/module/gem_grant/parameters/backend")
    assert mode == "444\n"


def test_random_calls(domain: Domain) -> None:
    domain.python(
        f"""
import random
{SETUP}
draw = random.Random(1)
some = [0, 1, PAGE - 1, PAGE, 3 * PAGE, 4 * PAGE, 2**31, 2**32, 2**63, 2**64 - PAGE]
fds = [at, fd, buf, sealed, large, larger, -1, 999, 0]
objects = []
done = 0
for n in range(5000):
    which = draw.choice([PAGES, PAGES, PAGES, RUNS, COUNTS, INFO, draw.getrandbits(32)])
    words = [draw.choice(fds), draw.choice([0, 0, 0, 1]), draw.choice(some)]
    words += [draw.choice(some), draw.choice([0, 0, 0, 7]), 0]
    argument = bytearray(struct.pack("=iIQQII", *words)) + bytes(64)
    if which == RUNS:
        room = draw.choice([0, 1, 4])
        space = array.array("I", bytes(64))
        argument[:16] = struct.pack("=QII", space.buffer_info()[0], room, 0)
    try:
        answer = fcntl.ioctl(draw.choice([at, *objects]), which, argument)
    except OSError:
        continue
    done += 1
    if which == PAGES:
        objects.append(answer)
    if len(objects) > 20:
        os.close(objects.pop(draw.randrange(len(objects))))
for each in objects: os.close(each)
assert done > 100, done
assert counts() == [0, 0, 0, 0], counts()
{CLOSE_ALL}
""",
        patience=300,
    )


def test_dom0_itself_has_nobody_to_grant_to() -> None:
    done = subprocess.run(
        ["insmod", "/lab/modules/gem_grant.ko"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "No such device" in done.stderr
