"""What happened in all processes of a run: one file, to which each appends whole lines."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["History", "read"]


class History:
    """Appends to a run's history.

    What it has written is there, whatever becomes of the process: one ``write`` per line, of a
    file that every process only appends to, and a ``fdatasync``.

    Args:
        path: The file. It is made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def add(self, what: str, **words: Any) -> None:
        """Write a line: what happened, when on the machine's one clock, and in which process."""
        line = {"what": what, "at": time.monotonic_ns(), "pid": os.getpid(), **words}
        os.write(self._file, json.dumps(line).encode() + b"\n")
        os.fdatasync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Give the lines, in the order in which they were written."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
