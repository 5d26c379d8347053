"""What importing the dispatcher does: nothing that a program could notice."""

from __future__ import annotations

import subprocess
import sys
import unittest

_PROGRAM = """
import sys, threading
from oni.twisted_event_dispatcher import EventDispatcher
dispatcher = EventDispatcher()
dispatcher.start()
heard = []
dispatcher.add_event_handler(heard.append, "during", use_weakref=False)
dispatcher.fire_event("event")
assert heard == ["event"]
assert "twisted.internet.reactor" not in sys.modules, "a reactor was installed"
assert "crochet" not in sys.modules, "crochet was imported"
assert threading.active_count() == 1, "a thread was started"
"""


class ImportTests(unittest.TestCase):
    """A program of its own that uses a dispatcher."""

    def test_needs_no_reactor(self) -> None:
        """Importing, starting, registering and firing install no reactor and start no thread."""
        program = [sys.executable, "-c", _PROGRAM]
        ended = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
