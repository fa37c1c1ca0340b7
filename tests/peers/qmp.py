"""A QEMU's monitor (QMP) that says what the test says."""

import json
import socket
import threading
from io import BufferedRWPair
from pathlib import Path

GREETING: dict[str, object] = {"QMP": {"version": {}, "capabilities": []}}


class FakeMonitor:
    """Answers each line it reads with the next of the given lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests: list[dict[str, object]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread: threading.Thread | None = None

    def serve(self, *answers: object) -> None:
        self._thread = threading.Thread(target=self._run, args=answers)
        self._thread.start()

    def close(self) -> None:
        if self._thread:
            self._thread.join()
        self._listener.close()

    def _run(self, greeting: object, *answers: object) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rwb") as lines:
            for each in greeting if isinstance(greeting, tuple) else (greeting,):
                self._write(lines, each)
            for answer in answers:
                request = lines.readline()
                if not request:
                    return
                self.requests.append(json.loads(request))
                for each in answer if isinstance(answer, tuple) else (answer,):
                    self._write(lines, each)

    @staticmethod
    def _write(lines: BufferedRWPair, answer: object) -> None:
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        lines.write(raw + b"\n")
        lines.flush()
