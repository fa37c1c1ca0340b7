"""Each block of commands in the documentation is run by a test, or says why not."""

from pathlib import Path

import pytest

from tests.docs.blocks import (
    PAGES,
    Block,
    Image,
    fault_of,
    inline_code,
    named,
    picture_fault,
    read_page,
)
from tests.docs.judge import mistake_in, unknown_options

ALL = [read_page(path) for path in PAGES]
BLOCKS = [block for page in ALL for block in page.blocks]
IMAGES = [image for page in ALL for image in page.images]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's configuration file counts here."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_run_or_says_why_not(block: Block) -> None:
    assert fault_of(block) is None


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.kind in ("", "sh")], ids=str
)
def test_programs_know_the_options_in_a_block(block: Block) -> None:
    mistakes = [mistake_in(words) for words in block.commands()]
    assert [each for each in mistakes if each] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_programs_know_the_options_in_a_sentence(page: Path) -> None:
    wrong = {" ".join(words): unknown_options(words) for words in inline_code(page)}
    assert {text: options for text, options in wrong.items() if options} == {}


@pytest.mark.parametrize(
    "image", IMAGES, ids=lambda each: f"{named(each.page)}:{each.line}"
)
def test_a_picture_says_what_makes_it(image: Image) -> None:
    assert picture_fault(image) is None


# ---- what the above would find


def test_blocks_are_found(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        "# A\n\nAs root:\n\n<!-- run by: a.py -->\n\n    one \\\n      two\n\n    three && four\n\n"
        "Text\n    that goes on, and\n\n## B\n```text\nfive\n```\n\n<!-- not run: x -->\n\nno\n\n    six\n"
    )
    first, second, third = read_page(path).blocks
    assert first.lines == ("one \\", "  two", "", "three && four")
    assert first.commands() == [["one", "two"], ["three"], ["four"]]
    assert (first.heading, first.lead, first.mark) == (
        "# A",
        "As root:",
        "run by: a.py",
    )
    assert (second.kind, second.lines, second.heading) == ("text", ("five",), "## B")
    assert (third.mark, third.lines, third.line) == ("", ("six",), 24)
    assert read_page(path).block("# A", "root:") == first
    with pytest.raises(AssertionError, match=r"page\.md has no commands in '## C'"):
        read_page(path).block("## C")


def test_words_of_commands() -> None:
    lines = ("sudo A=1 one 'a; b' | two > three  # no", "B=2 four &", "five;six")
    block = Block(Path("x"), 1, "", "", "", "", lines)
    assert block.commands() == [
        *(["one", "a; b"], ["two"], ["three"], ["four"], ["five"], ["six"]),
    ]


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ("", "no mark"),
        ("runs by itself", "no mark"),
        ("not run:", "no mark"),
        ("run by: tests/none.py", "there is no tests/none.py"),
        ("run by: tests/some.py::test_none", "has no test_none"),
        ("run by: tests/some.py::test_two", "has neither page.md nor"),
        ("run by: tests/some.py::test_one", "has neither page.md nor"),
        ("run by: tests/other.py::test_one", None),
        ("run by: tests/reads.py", None),
        ("not run: needs a desktop", None),
    ],
)
def test_a_wrong_mark_is_found(tmp_path: Path, mark: str, says: str | None) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/some.py").write_text(
        "def test_one(): ...\nasync def test_two(): ...\n"
    )
    (tmp_path / "tests/other.py").write_text("def test_one(): frob\n")
    (tmp_path / "tests/reads.py").write_text('read("page.md")\n')
    block = Block(tmp_path / "page.md", 1, "", "", mark, "", ("frob --all",))
    fault = fault_of(block, tmp_path)
    assert says in fault if says and fault else fault is says


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("wlproxy run --nmae work", "No such option"),
        ("wlproxy runs", "there is no `wlproxy runs`"),
        ("wlproxy config cheque", "there is no"),
        ("wlproxy run --present d", "is not one of"),
        ("wlproxy status work", "unexpected extra argument"),
        (".venv/bin/wlproxy run --name", "requires an argument"),
        ("wlproxy exec", "Missing argument"),
        ("wlproxy-guest-agent --vsok=1", "unrecognized arguments"),
        ("wlproxy-guest-agent doctro", "invalid choice"),
        ("wlproxy-guest-launcher --agnet x", "unrecognized arguments"),
        ("make dmeo", "there is no `make dmeo`"),
        ("systemctl enable wlproxy-guset-agent.service", "there is no unit"),
        ("systemctl --user enable wlproxyd@work.service", "there is no unit"),
        ("systemctl --user enable wlproxy@work.service", None),
        ("wlproxy run --help", None),
        ("wlproxy exec vm -- frob --whatever", None),
        ("wlproxy-guest-agent --help", None),
        ("frob --whatever", None),
    ],
)
def test_a_wrong_command_is_found(command: str, says: str | None) -> None:
    mistake = mistake_in(command.split())
    assert says in mistake if says and mistake else mistake is says


@pytest.mark.parametrize(
    ("command", "unknown"),
    [
        ("wlproxy run --listen, --nmae", ["--nmae"]),
        ("wlproxy frob", ["frob"]),
        ("wlproxy config show --name work", []),
        ("wlproxy exec vm -- foot -e", []),
        ("wlproxy run --no-exec", []),
        ("wlproxy-guest-agent --x", []),
        ("wlproxy", []),
    ],
)
def test_a_wrong_option_in_a_sentence_is_found(
    command: str, unknown: list[str]
) -> None:
    assert unknown_options(command.split()) == unknown


def test_code_in_sentences_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("With `wlproxy run\n--listen`:\n\n```text\n`no`\n```\n\n`x`\n")
    assert inline_code(page) == [["wlproxy", "run", "--listen"], ["x"]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("![a](a.png)", "no <!-- picture by"),
        ("<!-- picture by: hand -->\n\n![a](a.png)", "no <!-- picture by"),
        ("<!-- picture by hand: of a screen -->\n\n![a](a.png)", None),
        ("<!-- picture by hand: -->\n\n![a](a.png)", "no <!-- picture by"),
        ("<!-- picture by: make dmeo -->\n\n![a](a.png)", "there is no `make dmeo`"),
        ("<!-- picture by: make demo -->\n\nText.\n\n![a](a.png)", "no <!-- picture"),
        ("<!-- picture by: make demo -->\n\n![a](a.png)", None),
        (
            "<!-- pictures by: make bench -->\n<!-- x -->\nT\n\n![a](a)\n<!-- /x -->",
            None,
        ),
        ("<!-- x -->\n![a](a)\n<!-- /x -->", "no <!-- picture by"),
    ],
)
def test_a_picture_without_its_command_is_found(
    tmp_path: Path, text: str, says: str | None
) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    (image,) = read_page(page).images
    fault = picture_fault(image)
    assert says in fault if says and fault else fault is says
