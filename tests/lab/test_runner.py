import contextlib
import io
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from lab import paths, runner
from lab.errors import LabError


def test_the_tree_is_what_git_would_add(tmp_path: Path) -> None:
    for name in ("tracked", "new", "ignored", "gone"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("ignored\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "tracked", "gone"], cwd=tmp_path, check=True)
    (tmp_path / "gone").unlink()

    data = runner.pack_tree(tmp_path, {"dist/x": b"built"})

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [".gitignore", "new", "tracked", "dist/x"]


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="git"):
        runner.pack_tree(tmp_path)


def test_no_more_machines_than_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "cache", lambda: tmp_path)
    monkeypatch.setattr(runner, "MACHINES_AT_ONCE", 2)
    said: list[str] = []
    waits, runs = threading.Event(), threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    monkeypatch.setattr(runner, "say", say)

    def third() -> None:
        with runner.place():
            runs.set()

    with contextlib.ExitStack() as places:
        places.enter_context(runner.place())
        with runner.place():
            assert not said
            waiting = threading.Thread(target=third)
            waiting.start()
            assert waits.wait(10)
            assert not runs.is_set()
        assert runs.wait(10)  # one is free, the other is still held
        waiting.join()
    assert said == ["waiting for another lab to finish ..."]
