from pathlib import Path

import pytest

from lab import kernels
from lab.errors import LabError


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> kernels.Kernel:
    """A kernel that has been fetched, and our sources."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernels, "SOURCE", tmp_path / "source")
    (tmp_path / "source/include").mkdir(parents=True)
    (tmp_path / "source/gem_locate_main.c").write_text("int x;")
    (tmp_path / "source/include/gem_locate.h").write_text("#define X")
    found = kernels.Kernel("trixie", kernels.path("trixie"))
    found.tree.mkdir(parents=True)
    (found.tree / "release").write_text("6.12.1-amd64\n")
    set_option(found, "# CONFIG_UDMABUF is not set")
    return found


def set_option(kernel: kernels.Kernel, line: str) -> None:
    config = kernel.tree / "kernel/boot" / f"config-{kernel.release}"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f"CONFIG_X=y\n{line}\n")


def pretend_to_build(kernel: kernels.Kernel) -> None:
    with pytest.raises(LabError, match="lab build"):
        kernels.built(kernel.suite, kernel.release)
    kernels._built_path(kernel).mkdir(parents=True)
    assert kernels.is_built(kernel)


@pytest.mark.parametrize("changed", ["gem_locate_main.c", "include/gem_locate.h"])
def test_modules_are_built_anew_when_a_source_changes(
    kernel: kernels.Kernel, changed: str
) -> None:
    pretend_to_build(kernel)
    assert kernels.built("trixie", "6.12.1-amd64").keys() == set(kernels.MODULES)

    (kernels.SOURCE / changed).write_text("something else")

    assert not kernels.is_built(kernel)


def test_a_kernel_with_the_driver_gets_ours_under_another_name_too(
    kernel: kernels.Kernel,
) -> None:
    pretend_to_build(kernel)
    set_option(kernel, "CONFIG_UDMABUF=y")

    found = kernels.built("trixie", "6.12.1-amd64")

    assert found.keys() == {*kernels.MODULES, kernels.RENAMED}


def test_modules_are_for_one_release(kernel: kernels.Kernel) -> None:
    pretend_to_build(kernel)

    with pytest.raises(LabError, match=r"6\.12\.2"):
        kernels.built("trixie", "6.12.2-amd64")


def test_what_a_build_leaves_behind_is_no_source(kernel: kernels.Kernel) -> None:
    pretend_to_build(kernel)

    (kernels.SOURCE / "gem_locate.mod.c").write_text("generated")

    assert kernels.is_built(kernel)


def test_sources_are_copied_into_the_kernels_tree(kernel: kernels.Kernel) -> None:
    with kernels.sources(kernel, ["*.c", "include"]) as source:
        assert sorted(each.name for each in source.iterdir()) == [
            "gem_locate_main.c",
            "include",
        ]
