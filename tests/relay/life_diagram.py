"""The life of a buffer as a diagram, from its table.

`python -m tests.relay.life_diagram` puts it into `docs/architecture.md`.
"""

from pathlib import Path

from wlproxy.relay.buffers.life import TABLE, State

DOCUMENT = Path(__file__).parents[2] / "docs" / "architecture.md"
BEGIN, END = "<!-- life of a buffer: begin -->\n", "<!-- life of a buffer: end -->\n"


def diagram() -> str:
    """Draw the table as Mermaid; what leaves a state as it is, is left out."""
    inputs: dict[tuple[State, State], list[str]] = {}
    for (state, happened), (following, _action) in TABLE.items():
        if following is not state:
            inputs.setdefault((state, following), []).append(happened.name)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.UNSEEN.name}"]
    lines += [
        f"    {state.name} --> {following.name}: {', '.join(names)}"
        for (state, following), names in inputs.items()
    ]
    return "\n".join([*lines, f"    {State.GONE.name} --> [*]", "```", ""])


def drawn(text: str) -> str:
    """Put the diagram into the text of the document."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + diagram() + END + after


if __name__ == "__main__":
    DOCUMENT.write_text(drawn(DOCUMENT.read_text()))
