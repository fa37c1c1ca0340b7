"""Samples, and what they say together: medians, spreads, and whether they say anything."""

import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

FORMAT: Final = 1
"""The JSON file's; another one where what is there means something else."""
NOISY: Final = 0.15
"""A spread of more than this share of the median: the machine was too noisy to tell."""


class ResultsError(Exception):
    """A file has no results, or those of another version."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Samples of a figure.

    Attributes:
        median: the middle one.
        low: the least.
        high: the most.
        spread: the middle half's width, over the median; of up to three samples, the
            width of all of them; None: it cannot be told, from one sample or around 0.
    """

    median: float
    low: float
    high: float
    spread: float | None

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """Summarize samples, of which there is at least one."""
        median, low, high = statistics.median(samples), min(samples), max(samples)
        width = high - low
        if len(samples) > 3:
            first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
            width = third - first
        if len(samples) == 1:
            return cls(median, low, high, None)
        if not width:
            return cls(median, low, high, 0.0)
        return cls(median, low, high, width / abs(median) if median else None)

    @property
    def noisy(self) -> bool:
        """Whether the median means little: the samples differ, or there is only one."""
        return self.spread is None or self.spread > NOISY


@dataclass(slots=True)
class Results:
    """All samples of a run.

    Attributes:
        machine: which machine and which programs.
        options: how it was run.
        missing: what could not be measured -> why.
        about: workload -> its unit, and what it is.
        samples: workload -> peer -> figure -> one of each round.
    """

    machine: dict[str, str]
    options: dict[str, str]
    missing: dict[str, str] = field(default_factory=dict)
    about: dict[str, tuple[str, str]] = field(default_factory=dict)
    samples: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)

    def add(self, workload: str, peer: str, sample: Mapping[str, float]) -> None:
        """Add a round's sample."""
        figures = self.samples.setdefault(workload, {}).setdefault(peer, {})
        for figure, number in sample.items():
            figures.setdefault(figure, []).append(number)

    def get(self, workload: str, peer: str, figure: str) -> Summary | None:
        """Summarize a figure; None if it was not measured."""
        samples = self.samples.get(workload, {}).get(peer, {}).get(figure)
        return Summary.of(samples) if samples else None

    @property
    def peers(self) -> list[str]:
        """Those that anything was measured of, in the order that they were measured in."""
        return list(dict.fromkeys(p for each in self.samples.values() for p in each))

    def every(self, figure: str) -> list[float]:
        """All samples of a figure, whatever of."""
        return [
            number
            for peers in self.samples.values()
            for figures in peers.values()
            for number in figures.get(figure, ())
        ]

    def write(self, path: Path) -> None:
        """Write it as JSON, with a summary of each figure beside its samples."""
        text = json.dumps(self._document(), indent=1)
        # A figure is a line.
        text = re.sub(r"\{[^{}]*\}", lambda found: " ".join(found[0].split()), text)
        path.write_text(text + "\n")

    def _document(self) -> dict[str, Any]:
        workloads = {
            workload: {
                "unit": self.about[workload][0],
                "about": self.about[workload][1],
                "peers": {
                    peer: {name: _figure(samples) for name, samples in figures.items()}
                    for peer, figures in peers.items()
                },
            }
            for workload, peers in self.samples.items()
        }
        return {
            "format": FORMAT,
            "machine": self.machine,
            "options": self.options,
            "missing": self.missing,
            "workloads": workloads,
        }

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            ResultsError: it is something else.
            OSError: there is no such file.
        """
        try:
            document = json.loads(path.read_text())
            if document["format"] != FORMAT:
                raise ResultsError(f"{path}: results of another version")
            found = cls(document["machine"], document["options"], document["missing"])
            for workload, each in document["workloads"].items():
                found.about[workload] = (each["unit"], each["about"])
                found.samples[workload] = {
                    peer: {name: figure["samples"] for name, figure in figures.items()}
                    for peer, figures in each["peers"].items()
                }
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ResultsError(f"{path}: no results of `python -m bench`") from exc
        return found


def _figure(samples: Iterable[float]) -> dict[str, Any]:
    rounded = [_rounded(each) for each in samples]
    summary = Summary.of(rounded)
    return {
        "median": _rounded(summary.median),
        "low": summary.low,
        "high": summary.high,
        "spread": None if summary.spread is None else _rounded(summary.spread),
        "noisy": summary.noisy,
        "samples": rounded,
    }


def _rounded(number: float) -> float:
    """Round to what can be told: six digits."""
    return float(f"{number:.6g}")
