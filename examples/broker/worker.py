"""The worker: what Celery is told to run.

In this folder::

    celery -A worker worker --loglevel=INFO
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from oni.watchers import make_model_watcher

receiver = make_model_watcher("notify", tomllib.loads(Path("oni.toml").read_text()))
app = receiver.app
