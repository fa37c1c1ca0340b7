"""Types what the README of `kernel/udmabuf` tells users of Debian to type, on Debian.

In the trees in which the lab compiles, with DKMS over them (`lab/kernel_tools.py`).  Nothing is
loaded: `test_selftests.py` does that, with the same modules.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab import host_setup, kernel_tools, kernels

LOGS = Path("build")
PATIENCE = 600
"""Seconds for all of it: most are spent waiting for others who compile in the tree."""


pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.timeout(PATIENCE),
    pytest.mark.skipif(
        not kernel_tools.can_run(), reason="lays DKMS over a tree: needs root"
    ),
    pytest.mark.skipif(
        "mmdebstrap" in host_setup.missing(),
        reason="needs mmdebstrap: python3 -m lab setup",
    ),
]

# $1 is the kernel's release; what the tests read goes into /kept.
SCRIPT = """\
mkdir /kept
cd /src
name={name}
everything() {{ find /boot /etc /usr /var ! -type d | sort; }}
everything >/kept/before

make install
dkms build -k $1 $name
dkms status >/kept/status.built
dkms install -k $1 $name
dkms status >/kept/status.installed
cp /var/lib/dkms/$name/$1/*/log/make.log /kept

# What happens when a kernel is installed.
dkms uninstall -k $1 $name
dkms status >/kept/status.uninstalled
/etc/kernel/postinst.d/dkms $1
dkms status >/kept/status.hook

openssl x509 -inform DER -in /var/lib/dkms/mok.pub -out /kept/mok.pem
for each in {modules}; do
  modinfo -k $1 $each >/kept/$each.modinfo
  modprobe --set-version $1 --dry-run --verbose $each >/kept/$each.modprobe
  file=$(modinfo -k $1 -F filename $each)
  case $file in
    *.xz) xz -dc $file ;;
    *) cat $file ;;
  esac >/tmp/$each.ko
  # The end of a signed module: signature, 12 bytes with its length, 28 bytes of text.
  length=$(tail -c 32 /tmp/$each.ko | head -c 4 | od -An -tu4 --endian=big)
  tail -c $((length + 40)) /tmp/$each.ko | head -c $length >/tmp/$each.signature
  head -c -$((length + 40)) /tmp/$each.ko >/tmp/$each.signed
done
verify() {{
  openssl cms -verify -binary -noverify -inform DER -in /tmp/$1.signature \
      -content /tmp/$2.signed -certfile /kept/mok.pem -out /dev/null
}}
for each in {modules}; do verify $each $each; done
if verify {modules}; then exit 1; fi

dkms remove $name --all
make uninstall
dkms status >/kept/status.removed
everything >/kept/after
"""


@dataclass(frozen=True, slots=True)
class Done:
    kernel: kernels.Kernel
    version: str
    printed: str
    kept: Path

    def text(self, name: str) -> str:
        return (self.kept / name).read_text()

    def status(self, name: str) -> str:
        """Return what `dkms status` said, without what it is said of."""
        subject = f"wlproxy-udmabuf/{self.version}, {self.kernel.release}, x86_64: "
        text = self.text(f"status.{name}")
        assert not text or text.startswith(subject)
        return text.removeprefix(subject).strip()

    def field(self, module: str, name: str) -> str:
        """Return what `modinfo` said of a module that DKMS had installed."""
        found = re.search(
            rf"^{name}: +(.*)$", self.text(f"{module}.modinfo"), re.MULTILINE
        )
        assert found, f"{module} has no {name}"
        return found[1].strip()


@pytest.fixture(scope="module", params=["bookworm", "trixie"], ids=["6.1", "6.12"])
def done(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    suite = request.param
    kernel = kernels.fetch(suite)
    conf = (kernels.SOURCE / "dkms.conf").read_text()
    version = re.search(r'^PACKAGE_VERSION="(.*)"$', conf, re.MULTILINE)
    assert version
    name = f"wlproxy-udmabuf/{version[1]}"
    script = SCRIPT.format(name=name, modules=" ".join(kernels.MODULES))
    LOGS.mkdir(exist_ok=True)
    log = LOGS / f"dkms-{suite}.log"
    log.unlink(missing_ok=True)
    work = tmp_path_factory.mktemp("dkms")
    kernel_tools.run(kernel, script, work, log)
    return Done(kernel, version[1], log.read_text(), work / "upper/kept")


def test_dkms_builds_installs_and_removes(done: Done) -> None:
    # Trixie's has the driver itself, which is in nobody's way.
    assert done.kernel.has_udmabuf == (done.kernel.suite == "trixie")

    assert done.status("built") == "built"
    assert done.status("installed") == "installed"
    assert done.status("uninstalled") == "built"
    assert done.status("hook") == "installed"  # AUTOINSTALL
    assert not done.status("removed")
    assert not re.search(r"\.[ch]:\d+|\berror\b", done.text("make.log"))


def test_the_installed_modules_are_for_that_kernel(done: Done) -> None:
    for module in kernels.MODULES:
        path = f"/lib/modules/{done.kernel.release}/updates/dkms/{module}.ko"
        assert done.field(module, "filename").removesuffix(".xz") == path
        assert done.field(module, "vermagic").split()[0] == done.kernel.release
        assert done.field(module, "version") == done.version
        # depmod knows them, and nothing else has to be loaded first.
        loads = done.text(f"{module}.modprobe").split()
        assert loads == ["insmod", done.field(module, "filename")]


def test_dkms_signs_them_with_the_key_that_the_readme_names(done: Done) -> None:
    # The script has verified them, each with its own signature and not with the other's.
    for module in kernels.MODULES:
        assert done.field(module, "signer") == "DKMS module signing key"
        assert done.field(module, "sig_hashalgo") == "sha256"


def test_nothing_is_left_but_the_key(done: Done) -> None:
    before = set(done.text("before").splitlines())
    after = set(done.text("after").splitlines())

    assert before <= after
    assert after - before == {"/var/lib/dkms/mok.key", "/var/lib/dkms/mok.pub"}


def test_the_readme_says_what_was_run(done: Done) -> None:
    readme = (kernels.SOURCE / "README.md").read_text()

    assert f"sudo dkms install wlproxy-udmabuf/{done.version}\n" in readme
    assert "sudo make install\n" in readme
    assert f"sudo dkms remove wlproxy-udmabuf/{done.version} --all" in readme
    assert "sudo make uninstall" in readme
    assert "/var/lib/dkms/mok.pub" in readme
    assert f"apt install {' '.join(kernel_tools.PACKAGES)} " in readme
