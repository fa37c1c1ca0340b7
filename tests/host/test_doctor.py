from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.host.conftest import Weston
from wlproxy.host import doctor
from wlproxy.host.desktop.udmabuf_device import UdmabufDevice, UdmabufLimits
from wlproxy.host.doctor import (
    Finding,
    Verdict,
    check_capabilities,
    check_kernel,
    check_landlock,
    check_limits,
    check_xen,
    examine,
)
from wlproxy.relay.capabilities import CompositorCapabilities


def by_subject(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


@pytest.mark.parametrize(
    ("release", "verdict"),
    [
        ("6.12.107+deb13-amd64", Verdict.OK),
        ("4.20.0", Verdict.OK),
        ("4.19.0-26-amd64", Verdict.PROBLEM),
        ("7", Verdict.WARNING),
        ("next-20261122", Verdict.WARNING),
    ],
)
def test_kernel(release: str, verdict: Verdict) -> None:
    assert check_kernel(release).verdict is verdict


def test_landlock() -> None:
    none = check_landlock(0)
    assert none.verdict is Verdict.WARNING
    assert "by its unit" in none.remedy
    assert check_landlock(6).explanation.startswith("Landlock 6: a proxy confines")
    old = check_landlock(3)
    assert old.verdict is Verdict.OK
    assert "too old to forbid TCP and signals:" in old.explanation


def test_default_limits_are_too_small_for_a_scattered_frame() -> None:
    findings = by_subject(check_limits(UdmabufLimits(1024, 64 << 20)))
    items = findings["udmabuf list_limit"]
    assert items.verdict is Verdict.WARNING
    assert "echo 65536 > /sys/module/udmabuf/parameters/list_limit" in items.remedy
    assert "options udmabuf list_limit=65536 size_limit_mb=256'" in items.remedy
    size = findings["udmabuf size_limit_mb"]
    assert size.verdict is Verdict.WARNING
    assert size.remedy == items.remedy
    assert "size_limit_mb=256" in size.remedy


def test_raised_limits() -> None:
    findings = check_limits(UdmabufLimits(8101, 128 << 20))
    assert {finding.verdict for finding in findings} == {Verdict.OK}


def test_mode_a_is_all_it_takes() -> None:
    found = CompositorCapabilities(shm_udmabuf=True, dmabuf_reason="pixman")
    findings = by_subject(check_capabilities(found))
    assert {finding.verdict for finding in findings.values()} == {Verdict.OK}


def test_neither_mode_is_a_problem() -> None:
    found = CompositorCapabilities(
        shm_udmabuf=False, shm_udmabuf_reason="mmap", dmabuf_reason="pixman"
    )
    findings = by_subject(check_capabilities(found))
    assert findings["zero-copy"].verdict is Verdict.PROBLEM
    assert findings["mode A (wl_shm over udmabuf)"].explanation == "mmap"


def test_mode_b_and_a_security_context() -> None:
    found = CompositorCapabilities(
        shm_udmabuf=False,
        shm_udmabuf_reason="mmap",
        dmabuf_stride_alignment={1: 4, 2: 256},
        global_versions={"wp_security_context_manager_v1": 1},
    )
    findings = by_subject(check_capabilities(found))
    assert "256" in findings["mode B (linux-dmabuf)"].explanation
    assert findings["zero-copy"].verdict is Verdict.OK
    assert "apart" in findings["security context"].explanation


def test_every_problem_of_a_bare_host_has_a_remedy(tmp_path: Path) -> None:
    findings = by_subject(examine({}, None, tmp_path / "udmabuf"))
    problems = [each for each in findings.values() if each.verdict is Verdict.PROBLEM]
    assert {each.subject for each in problems} == {"udmabuf (missing)", "compositor"}
    assert all(each.remedy for each in problems)


def test_compositor_is_examined_without_the_driver(
    weston: Weston, tmp_path: Path
) -> None:
    findings = by_subject(examine(weston.environ, None, tmp_path / "udmabuf"))
    assert findings["compositor"].verdict is Verdict.OK
    assert findings["zero-copy"].verdict is Verdict.PROBLEM


@pytest.mark.lab
def test_the_labs_host_is_fit(weston: Weston, udmabuf: UdmabufDevice) -> None:
    assert udmabuf.limits().list_limit
    findings = by_subject(examine(weston.environ))
    assert findings["udmabuf"].verdict is Verdict.OK
    assert findings["zero-copy"].verdict is Verdict.OK


@pytest.mark.parametrize("kind", ["kvm\n", "", None])
def test_gntdev_is_looked_for_in_a_domain_only(
    tmp_path: Path, kind: str | None
) -> None:
    if kind is not None:
        (tmp_path / "type").write_text(kind)
    assert list(check_xen(tmp_path / "type", tmp_path / "gntdev")) == []


def test_a_domain_with_gntdev_and_without(tmp_path: Path) -> None:
    (tmp_path / "type").write_text("xen\n")
    lacks, *_ = check_xen(tmp_path / "type", tmp_path / "gntdev")
    assert lacks.verdict is Verdict.WARNING
    assert "modprobe xen-gntdev" in lacks.remedy
    has, *_ = check_xen(tmp_path / "type", Path("/dev/null"))
    assert has.verdict is Verdict.OK


def test_a_domain_with_libxenvchan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "type").write_text("xen\n")
    monkeypatch.setattr(doctor, "find_library", lambda _: "libxenvchan.so.4.20")
    _, vchan = check_xen(tmp_path / "type", Path("/dev/null"))
    assert (vchan.verdict, vchan.subject) == (Verdict.OK, "Xen's vchan")
