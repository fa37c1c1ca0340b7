"""The table of a run, as Markdown: medians, ranges, ratios, and which of them to distrust."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench import measuring
from bench.growth import grown
from bench.measuring import side
from bench.peers import APP_SIDE, COMPOSITOR_SIDE, NOT_THERE
from bench.results import NOISY, Results, Summary
from bench.targets import BASELINE, RIVAL, SUBJECT, Reached, reached

UNSURE: Final = "~"
"""Before a number that the machine was too noisy for."""
BUSY_PERCENT: Final = 10.0
"""More of the processors than this with others, or stolen, is worth a warning."""


@dataclass(frozen=True, slots=True)
class Section:
    """A table: a row for each workload that has one of these figures.

    Attributes:
        title: its heading.
        figures: figure -> what stands beside the workload's name, if there are several.
        against: the peer that wlproxy is divided by; "": none.
        ranges: whether the least and the most are shown.
    """

    title: str
    figures: dict[str, str]
    against: str = ""
    ranges: bool = True


def _sides(figure: str) -> dict[str, str]:
    return {
        side(figure, APP_SIDE): "app's side",
        side(figure, COMPOSITOR_SIDE): "compositor's side",
    }


SECTIONS: Final = (
    Section("CPU of both ends, µs per unit", {measuring.CPU: ""}, RIVAL),
    Section("CPU of each end, µs per unit", _sides(measuring.CPU), RIVAL),
    Section("Longer than direct, µs, the median unit", {measuring.ADDED: ""}, RIVAL),
    Section(
        "How long a unit takes, µs",
        {measuring.P50: "p50", measuring.P99: "p99"},
        BASELINE,
    ),
    Section("Units per second", {measuring.RATE: ""}, BASELINE),
    Section("System calls per unit", _sides(measuring.CALLS), RIVAL, ranges=False),
    Section(
        "Passes of the event loop per unit",
        _sides(measuring.PASSES),
        RIVAL,
        ranges=False,
    ),
    Section(
        "Pixel bytes copied by wlproxy per unit", {measuring.COPIED: ""}, ranges=False
    ),
    Section(
        "Bytes between the ends per unit", {measuring.BETWEEN: ""}, RIVAL, ranges=False
    ),
    Section("Peak memory, MiB resident", _sides(measuring.PEAK), RIVAL, ranges=False),
    Section(
        "Memory that an app adds, KiB",
        {measuring.CLIENT_KIB: "both ends", **_sides(measuring.CLIENT_KIB)},
        RIVAL,
    ),
    Section(
        "Memory without any app, KiB",
        {measuring.NOBODY_KIB: "both ends", **_sides(measuring.NOBODY_KIB)},
        RIVAL,
        ranges=False,
    ),
    Section(
        "Start of the compositor's side, ms",
        {
            measuring.READY_MS: "until ready",
            measuring.READY_CPU_MS: "CPU until ready",
            measuring.VERSION_CPU_MS: "CPU of --version",
        },
        RIVAL,
    ),
    Section(
        "A real app, ms of CPU per second",
        {measuring.APP_CPU_MS: "both ends", **_sides(measuring.APP_CPU_MS)},
        RIVAL,
    ),
)


def markdown(results: Results) -> str:
    """Write everything as Markdown; it can be read as text, too."""
    lines = [*(f"* {line}" for line in _head(results)), *_targets(results)]
    for section in SECTIONS:
        rows = list(_rows(results, section))
        if rows:
            lines += ["", f"**{section.title}**", "", *_table(results, section, rows)]
    lines += _growth(results)
    lines += ["", "**Units**", ""]
    about = results.about.items()
    lines += [f"* {name}: {each}; per {unit}" for name, (unit, each) in about]
    return "\n".join(lines) + "\n"


def short(results: Results) -> str:
    """Write the one table that a newcomer wants: the CPU time of a frame of each size."""
    section = SECTIONS[0]
    rows = [row for row in _rows(results, section) if row[0].startswith("frames-")]
    table = "\n".join(_table(results, section, rows))
    return f"{section.title.replace('unit', 'frame')}:\n\n{table}\n"


def _head(results: Results) -> Iterator[str]:
    machine, options = results.machine, results.options
    of_machine = ", ".join(
        [
            machine["processor"],
            machine["memory"],
            f"Linux {machine['kernel']}",
            "virtual" if machine["virtual"] == "yes" else "not virtual",
        ]
    )
    yield f"Machine: {of_machine}."
    programs = ("wlproxy", "python", "trio", "weston", "sway", "waypipe")
    yield (
        "Versions: "
        + ", ".join(
            f"{each} {_bare(machine[each])}"
            for each in programs
            if machine.get(each, NOT_THERE) != NOT_THERE
        )
        + "."
    )
    quick = ", quick: too few units to rely on" if options["quick"] == "yes" else ""
    yield f"Run: {options['began']}, {options['rounds']} rounds{quick}."
    yield from _noise(results)
    for what, why in results.missing.items():
        yield f"Not measured: {what}: {why}."
    yield f"`{UNSURE}`: the rounds differ by more than {NOISY:.0%}: do not rely on it."


def _bare(text: str) -> str:
    """Cut a program's name off its version."""
    return text.rpartition(" ")[2] if text[:1].isalpha() and " " in text else text


def _noise(results: Results) -> Iterator[str]:
    said = {}
    for figure in measuring.NOISE:
        if samples := results.every(figure):
            said[figure] = (statistics.median(samples), max(samples))
    if not said:
        return
    names = {
        measuring.OTHERS: "with others",
        measuring.STEAL: "stolen",
        measuring.IDLE: "idle",
    }
    parts = [
        f"{names[figure]} {median:.0f} % (at most {most:.0f} %)"
        for figure, (median, most) in said.items()
    ]
    yield f"Processors, while it was measured: {', '.join(parts)}."
    disturbed = [said[each][0] for each in measuring.NOISE[:2] if each in said]
    if sum(disturbed) > BUSY_PERCENT:
        yield "**The machine was busy with something else: no figure here is good.**"


def _rows(
    results: Results, section: Section
) -> Iterator[tuple[str, dict[str, Summary]]]:
    for workload in results.samples:
        for figure, beside in section.figures.items():
            found = {
                peer: summary
                for peer in results.peers
                if (summary := results.get(workload, peer, figure)) is not None
            }
            if found:
                yield f"{workload} {beside}".strip(), found


def _table(
    results: Results, section: Section, rows: list[tuple[str, dict[str, Summary]]]
) -> Iterator[str]:
    peers = [each for each in results.peers if any(each in found for _, found in rows)]
    against = section.against if section.against in peers and SUBJECT in peers else ""
    heads = ["", *peers, *([f"{SUBJECT} / {against}"] if against else [])]
    body = []
    for name, found in rows:
        cells = [cell(found.get(peer), ranges=section.ranges) for peer in peers]
        ratios = [ratio(found.get(SUBJECT), found.get(against))] if against else []
        if not section.ranges:
            ratios = [each.removeprefix(UNSURE) for each in ratios]
        body.append([name, *cells, *ratios])
    yield from aligned([heads, *body])


def _targets(results: Results) -> Iterator[str]:
    rows = [[t.what, t.most, _reached(found)] for t, found in reached(results)]
    if rows:
        yield from ["", "**What is to be reached**", ""]
        yield from aligned([["", "target: at most", "reached"], *rows])


def _growth(results: Results) -> Iterator[str]:
    rows = [[each.what, _reached(found)] for each, found in grown(results)]
    if rows:
        yield from ["", "**What more of it costs, and what a processor carries**", ""]
        yield from aligned([["", SUBJECT], *rows])


def _reached(found: Reached) -> str:
    return (UNSURE if found.noisy else "") + " and ".join(map(number, found.numbers))


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write rows as a Markdown table, the first one its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    yield _line(rows[0], widths)
    rules = ("-" * (width + 1) for width in widths)
    yield (
        "|"
        + "|".join(f"{rule}{':' if i else '-'}" for i, rule in enumerate(rules))
        + "|"
    )
    for row in rows[1:]:
        yield _line(row, widths)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if not i else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "| " + " | ".join([first, *others]) + " |"


def number(value: float) -> str:
    """Write a number with the digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.2g}"


def cell(summary: Summary | None, *, ranges: bool) -> str:
    """Write a median, marked if it is noisy, and the least and the most if they are shown."""
    if summary is None:
        return ""
    if not ranges:  # counts: nearly the same each time
        return number(summary.median)
    text = (UNSURE if summary.noisy else "") + number(summary.median)
    if summary.low != summary.high:
        text += f" ({number(summary.low)} to {number(summary.high)})"
    return text


def ratio(ours: Summary | None, theirs: Summary | None) -> str:
    """Divide one median by another; marked if either is noisy, empty if there is none."""
    if ours is None or theirs is None or not theirs.median:
        return ""
    mark = UNSURE if ours.noisy or theirs.noisy else ""
    return f"{mark}{number(ours.median / theirs.median)}"
