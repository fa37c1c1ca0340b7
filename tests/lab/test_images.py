from pathlib import Path

import pytest

from lab import images, kernels


@pytest.fixture
def kernel(tmp_path: Path) -> kernels.Kernel:
    found = kernels.Kernel("trixie", tmp_path / "kernel-trixie-aaaa")
    found.tree.mkdir(parents=True)
    (found.tree / "release").write_text("6.12.1-amd64\n")
    return found


@pytest.fixture
def image(tmp_path: Path) -> images.Image:
    (tmp_path / "guest-bbbb").mkdir()
    return images.Image(tmp_path / "guest-bbbb", "trixie")


def test_an_image_says_which_kernel_it_has(
    image: images.Image, kernel: kernels.Kernel
) -> None:
    assert not image.has(kernel)  # made before that was written down

    (image.directory / images.KERNEL_IDENTITY).write_text(kernel.identity + "\n")

    assert image.has(kernel)
    assert image.release == kernel.release


def test_a_kernel_with_other_modules_is_another(
    image: images.Image, kernel: kernels.Kernel, tmp_path: Path
) -> None:
    """A kernel of the same release from another recipe: the image is made anew."""
    (image.directory / images.KERNEL_IDENTITY).write_text(kernel.identity)
    other = kernels.Kernel("trixie", kernel.directory.rename(tmp_path / "kernel-cccc"))

    assert other.release == image.release
    assert not image.has(other)
