"""gunicorn's settings: each worker runs a reactor of its own, from after its fork on."""

from typing import Any

bind = "127.0.0.1:5000"
workers = 2


def post_fork(server: Any, worker: Any) -> None:
    """Start the reactor's thread in a worker. A thread that ran before would be left behind."""
    from oni.blocking import setup

    setup()
