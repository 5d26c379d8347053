"""Notes on Flask in several processes, beside a daemon that has the websockets.

Run by ``twistd -n oni --config oni.toml`` and, in another terminal,
``gunicorn --workers 2 --bind 127.0.0.1:5000 on_gunicorn:app``, without ``--preload``.
"""

from __future__ import annotations

from notes import Notes
from on_flask import HERE, make_app

from oni.server import Oni, load_settings

EVENTS = "http://127.0.0.1:8000"  # where the daemon listens

# This Oni is never started: it keeps what happens, and the daemon tells it.
app = make_app(Notes(Oni(load_settings(HERE / "oni.toml"))), EVENTS)
