"""The benchmark's app in the lab's guest, which does as it is told through two FIFOs.

    python3 -m bench.guest_app DIRECTORY DISPLAY AGENT_PID

A line is a JSON object, as of `tests.clients.spawner`; whoever sends it can so read the
other end's CPU time before the first unit, and after the last one:

    {"op": "prepare", "workload": "sync"}   ->   {"ok": {}}
    {"op": "run", "count": 50}              ->   {"ok": {"agent": 0.3, "taken": [...]}}
    {"op": "leave"}                         ->   {"ok": {}}
"""

import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.counting import tree_cpu_seconds
from bench.workloads import WORKLOADS, Run
from tests.clients.spawner import answer_through, make_fifos

NAME: Final = "bench"
"""What the FIFOs are called."""
SETTLE_SECONDS: Final = 0.2
"""Until what follows the last unit is over: credit, a buffer that is let go."""


class Teller:
    """Runs workloads, one after the other, and says what they took."""

    def __init__(self, display: str, agent: int) -> None:
        """Nothing is prepared.

        Args:
            display: the agent's socket.
            agent: its process id.
        """
        self._display = display
        self._agent = agent
        self._prepared = ExitStack()
        self._run: Run | None = None

    def obey(self, command: dict[str, Any]) -> dict[str, object]:
        """Carry out one command.

        Raises:
            ValueError: there is no such one, or nothing to run.
        """
        match command:
            case {"op": "prepare", "workload": name}:
                (workload,) = (each for each in WORKLOADS if each.name == name)
                prepared = workload.prepare(self._display)
                self._run = self._prepared.enter_context(prepared)
                time.sleep(SETTLE_SECONDS)
            case {"op": "run", "count": count} if self._run is not None:
                before = tree_cpu_seconds(self._agent)
                taken = self._run(count)
                time.sleep(SETTLE_SECONDS)
                spent = tree_cpu_seconds(self._agent) - before
                return {"agent": spent, "taken": list(taken)}
            case {"op": "leave"}:
                self._run = None
                self._prepared.pop_all().close()
            case _:
                raise ValueError(f"cannot do {command}")
        return {}


def main(directory: Path, display: str, agent: int) -> None:
    """Obey until killed."""
    directory.mkdir(parents=True, exist_ok=True)
    teller = Teller(display, agent)
    commands, sink = make_fifos(directory, NAME)
    with os.fdopen(commands, "rb", buffering=0) as source:
        for line in iter(source.readline, b""):
            try:
                answer: dict[str, object] = {"ok": teller.obey(json.loads(line))}
            except Exception as exc:  # noqa: BLE001 - it is for whoever asked
                answer = {"error": [type(exc).__name__, str(exc)]}
            answer_through(sink, json.dumps(answer).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
