import dataclasses
from pathlib import Path

from lab import recipe

LOCK = """\
# a comment
attrs==26.1.0 \\
    --hash=sha256:00
Foo_Bar==1.2 ; python_version < '4' \\
    --hash=sha256:00
"""


def test_key_depends_on_the_packages_and_not_on_their_order() -> None:
    image = recipe.Recipe("x", ("a", "b"))

    assert image.key == dataclasses.replace(image, packages=("b", "a")).key
    assert image.key != dataclasses.replace(image, packages=("a", "c")).key
    assert image.key != dataclasses.replace(image, name="y").key
    assert image.key != dataclasses.replace(image, suite="bookworm").key


def test_file_digest_depends_on_names_and_contents() -> None:
    assert recipe.digest_files({"a": b"1", "b": b"2"}) == recipe.digest_files(
        {"b": b"2", "a": b"1"}
    )
    assert recipe.digest_files({"a": b"1"}) != recipe.digest_files({"b": b"1"})
    assert recipe.digest_files({"a": b"1"}) != recipe.digest_files({"a": b"2"})


def test_requirements_get_the_locked_versions(tmp_path: Path) -> None:
    listed, lock = tmp_path / "listed", tmp_path / "lock"
    listed.write_text("# why\nfoo-bar  # for this\n\nother\n")
    lock.write_text(LOCK)

    assert recipe.requirements(listed, lock) == ["foo-bar==1.2", "other"]
    assert recipe.constraints(lock) == ["attrs==26.1.0", "foo-bar==1.2"]
    assert recipe.constraints(tmp_path / "none") == []


def test_everything_listed_is_locked() -> None:
    assert all("==" in each for each in recipe.requirements())
