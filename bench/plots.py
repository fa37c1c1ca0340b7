"""Bar charts of a run as SVG, written by hand: no library is worth its weight for three of them.

Bars are on a logarithmic scale, since what is compared differs a thousandfold.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from bench import measuring
from bench.report import UNSURE, number
from bench.results import Results, Summary

COLOURS: Final = ("#777777", "#1b7837", "#d6604d", "#762a83")
WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 860, 140, 90, 13, 12, 56
PLOTS: Final = {
    "cpu.svg": (
        measuring.CPU,
        "CPU of both ends, µs per unit: less is better (logarithmic)",
    ),
    "latency.svg": (
        measuring.ADDED,
        "Longer than direct, µs, the median unit: less is better (logarithmic)",
    ),
    "rate.svg": (measuring.RATE, "Units per second: more is better (logarithmic)"),
}
"""File name -> the figure, and the title."""

Bars = Mapping[str, Mapping[str, Summary]]
"""Workload -> peer -> its bar."""


def write_plots(results: Results, directory: Path) -> None:
    """Write all charts that there are figures for."""
    for name, (figure, title) in PLOTS.items():
        bars = {
            workload: {
                peer: summary
                for peer in results.peers
                if (summary := results.get(workload, peer, figure)) is not None
            }
            for workload in results.samples
        }
        bars = {workload: each for workload, each in bars.items() if each}
        if bars:
            (directory / name).write_text(bar_chart(title, bars, results.peers))


def bar_chart(title: str, bars: Bars, peers: list[str]) -> str:
    """Draw groups of horizontal bars.

    Args:
        title: what they show.
        bars: those below or at 0 have no length.
        peers: all of them, which have a colour each.
    """
    values = [s.median for each in bars.values() for s in each.values() if s.median > 0]
    least, most = min(values, default=1.0), max(values, default=1.0)
    start = math.floor(math.log10(least))
    span = max(math.ceil(math.log10(most)) - start, 1)
    colours = dict(zip(peers, COLOURS, strict=False))
    used = [peer for peer in peers if any(peer in each for each in bars.values())]
    rows = sum(len(each) * BAR + GAP for each in bars.values())
    height = TOP + rows + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">',
        '<g font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="18" font-size="14">{escape(title)}</text>',
        *_legend(used, colours),
        *_grid(start, span, height),
    ]
    y = TOP + GAP / 2
    for workload, each in bars.items():
        middle = y + len(each) * BAR / 2 + 4
        parts.append(f'<text x="10" y="{middle:.0f}">{escape(workload)}</text>')
        for peer, summary in each.items():
            parts += _bar(y, summary, colours[peer], start, span)
            y += BAR
        y += GAP
    return "\n".join([*parts, "</g></svg>"]) + "\n"


def _legend(peers: list[str], colours: Mapping[str, str]) -> Iterator[str]:
    for index, peer in enumerate(peers):
        x = LEFT + 130 * index
        yield f'<rect x="{x}" y="28" width="10" height="10" fill="{colours[peer]}"/>'
        yield f'<text x="{x + 15}" y="37">{escape(peer)}</text>'


def _grid(start: int, span: int, height: int) -> Iterator[str]:
    for power in range(span + 1):
        x = LEFT + (WIDTH - LEFT - RIGHT) * power / span
        yield f'<path d="M{x:.0f} {TOP} V{height - 10}" stroke="#dddddd"/>'
        label = number(10.0 ** (start + power))
        yield f'<text x="{x:.0f}" y="{TOP - 4}" text-anchor="middle">{label}</text>'


def _bar(
    y: float, summary: Summary, colour: str, start: int, span: int
) -> Iterator[str]:
    share = (math.log10(summary.median) - start) / span if summary.median > 0 else 0.0
    length = (WIDTH - LEFT - RIGHT) * share
    opacity = 0.45 if summary.noisy else 1
    yield (
        f'<rect x="{LEFT}" y="{y:.0f}" width="{length:.1f}" height="{BAR - 2}"'
        f' fill="{colour}" fill-opacity="{opacity}"/>'
    )
    label = (UNSURE if summary.noisy else "") + number(summary.median)
    yield f'<text x="{LEFT + length + 4:.0f}" y="{y + BAR - 3:.0f}">{label}</text>'
