"""Debian's packages: built, checked by lintian, installed, updated and removed, for real."""

import email
import re

import pytest

from lab import host_setup, kernel_tools
from release import debs
from tests.packaging.builds import DIRECTORIES, ROOT
from wlproxy import __version__

PACKAGES = (
    *("python3-wlproxy-protocol", "wlproxy", "wlproxy-guest-agent", "wlproxy-dkms"),
)
PATIENCE = 400
"""Seconds: the first time, two trees are unpacked, which takes a minute each."""

INSTALL = """\
cd /build
ours() { find / -xdev ! -type d -name '*wlproxy*' ! -path '/build/*' ! -path '/var/cache/*' |
    sort; }
apt-get -q update
cp -r /etc/pam.d /tmp/pam.d
test -z "$(ours)"
apt-get -q install --yes --no-install-recommends ./0/*.deb
echo "@installed"
ours
echo "@checks"
sh -x tests/programs
ls /usr/share/wlproxy/systemd
man --path wlproxy-run
systemd-analyze --user verify /usr/lib/systemd/user/wlproxy@work.service || true
systemd-analyze verify wlproxy-guest-agent.service
systemctl is-enabled wlproxy-guest-agent.service wlproxy-guest-agent.socket
getent passwd wlproxy
grep wlproxy_env /etc/pam.d/common-session
dkms status
udevadm verify /usr/lib/udev/rules.d/*wlproxy*.rules
echo "@updated"
apt-get -q install --yes --no-install-recommends ./1/*.deb
wlproxy --version
wlproxy-guest-agent --version
dkms status
echo "@removed"
apt-get -q remove --yes wlproxy wlproxy-guest-agent wlproxy-dkms python3-wlproxy-protocol
ours | grep -v '^/var/lib/dpkg/info/' || true
echo "@purged"
dpkg --purge wlproxy wlproxy-guest-agent
ours
diff -r /tmp/pam.d /etc/pam.d && echo "@pam is as it was"
"""

needs_debian = [
    pytest.mark.slow,
    pytest.mark.timeout(PATIENCE),
    pytest.mark.skipif(
        not kernel_tools.can_run(), reason="mounts a Debian: needs root"
    ),
    pytest.mark.skipif(
        "mmdebstrap" in host_setup.missing(),
        reason="needs mmdebstrap: python3 -m lab setup",
    ),
]


def test_packages_have_the_programs_version() -> None:
    assert debs.package_version() == __version__


def test_the_chroot_has_what_control_asks_for() -> None:
    control = email.message_from_string((debs.DEBIAN / "control").read_text())
    asked = set(re.findall(r"[a-z][a-z0-9-]+", control["Build-Depends"]))
    asked = {each.replace("dh-sequence-dkms", "dh-dkms") for each in asked}
    in_debhelper = {"debhelper-compat", "dh-sequence-installsysusers"}
    in_dh_python = {"dh-sequence-python3"}
    assert asked - in_debhelper - in_dh_python <= set(debs.TOOLS)
    assert {"debhelper", "dh-python"} <= set(debs.TOOLS)


@pytest.mark.parametrize("name", ["wlproxy_channel", "wlproxy_guest"])
def test_licences_are_the_repositorys(name: str) -> None:
    text = (ROOT / DIRECTORIES[name] / "LICENSE").read_text()
    assert text == (ROOT / "LICENSE").read_text()


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a clean Debian said, by what was done."""
    now, later = (tmp_path_factory.mktemp(name) for name in ("now", "later"))
    made = debs.build(now)
    names = {path.name.partition("_")[0] for path in made if path.suffix == ".deb"}
    assert names == set(PACKAGES)
    debs.build(later, version=__version__ + debs.NEXT)
    text = debs.try_out(INSTALL, now, later)
    parts = re.split(r"^@(.*)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.usefixtures("said")
class TestPackages:
    """One life of all packages."""

    pytestmark = needs_debian

    def test_files_are_where_debian_looks(self, said: dict[str, str]) -> None:
        installed = set(said["installed"].split())
        assert installed >= {
            *("/usr/bin/wlproxy", "/usr/bin/wlproxy-guest-agent"),
            *("/usr/lib/systemd/user/wlproxy@.service",),
            *("/usr/lib/systemd/system/wlproxy-guest-agent.service",),
            *("/usr/lib/systemd/user-preset/50-wlproxy.preset",),
            *("/usr/lib/systemd/user-environment-generators/60-wlproxy",),
            *("/usr/lib/modprobe.d/wlproxy.conf", "/usr/share/pam-configs/wlproxy"),
            *("/usr/lib/tmpfiles.d/wlproxy.conf",),
            *("/usr/lib/udev/rules.d/60-wlproxy.rules",),
            *("/usr/lib/udev/rules.d/70-wlproxy.rules",),
            *("/usr/share/man/man1/wlproxy-run.1.gz",),
            *("/usr/share/bash-completion/completions/wlproxy-guest-agent",),
            *("/usr/share/zsh/vendor-completions/_wlproxy",),
            *("/usr/share/fish/vendor_completions.d/wlproxy.fish",),
        }
        assert not [path for path in installed if "/local/" in path]

    def test_it_works(self, said: dict[str, str]) -> None:
        checks = said["checks"]
        assert "/usr/share/man/man1/wlproxy-run.1.gz" in checks
        assert "enabled\nenabled\n" in checks
        assert "exec.conf\nvsock.conf\n" in checks
        assert re.search(r"^wlproxy:.*nologin$", checks, re.MULTILINE)
        assert "pam_env.so conffile=/etc/security/wlproxy_env.conf" in checks
        assert f"wlproxy-udmabuf/{__version__}" in checks

    def test_it_is_updated(self, said: dict[str, str]) -> None:
        later = __version__ + debs.NEXT
        assert f"wlproxy, version {later}\n{later}\n" in said["updated"]

    def test_only_configuration_is_left(self, said: dict[str, str]) -> None:
        left = re.findall(r"^/.*wlproxy.*$", said["removed"], re.MULTILINE)
        # Whether units were enabled is configuration, too; systemd's helper keeps it.
        enabled = re.compile(r"/etc/systemd/.*\.wants/|/var/lib/systemd/deb-systemd-h")
        assert [path for path in left if not enabled.match(path)] == [
            "/etc/apparmor.d/abstractions/libvirt-qemu.d/wlproxy-sockets",
            "/etc/security/wlproxy_env.conf",
        ]

    def test_nothing_is_left_of_what_was_purged(self, said: dict[str, str]) -> None:
        assert re.findall(r"^/.*wlproxy.*$", said["purged"], re.MULTILINE) == []
        assert "pam is as it was" in said
