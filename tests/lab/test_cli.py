import pytest

from lab import cli


@pytest.mark.parametrize(
    ("line", "own", "command"),
    [
        ("run ls -l", "run", "ls -l"),
        ("run --guest --timeout 5 -- ls --out", "run --guest --timeout 5", "ls --out"),
        ("pytest --timeout=5 -q --guest", "pytest --timeout=5", "-q --guest"),
        ("pytest tests --out x", "pytest", "tests --out x"),
        ("pytest --out x", "pytest --out x", ""),
        ("status", "status", ""),
    ],
)
def test_the_command_begins_at_the_first_foreign_word(
    line: str, own: str, command: str
) -> None:
    assert cli.split(line.split()) == (own.split(), command.split())
