import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from lab import runner
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
