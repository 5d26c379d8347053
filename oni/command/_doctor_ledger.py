"""What ``oni doctor`` finds in the ledger that the settings name."""

from __future__ import annotations

import os
from collections.abc import Iterator

from oni.command._doctor_rows import Row, error, fine, warning
from oni.command._ledger_place import file_of
from oni.errors import LedgerUnavailableError, OniError
from oni.ledger import store_for
from oni.server import Settings

__all__ = ["look_at_ledger"]

_LATE = 300.0  # seconds for which something may be due, before somebody should look


def look_at_ledger(settings: Settings) -> Iterator[Row]:
    """Open the ledger, and look what waits in it. Nothing where there is none."""
    url = settings.ledger.url_in(settings.folder)
    if url is None:
        return
    path = file_of(url)
    if url == "memory:":
        yield warning(
            "ledger", "memory: it forgets every key when the daemon ends", "name a file or server"
        )
    elif path is not None and not os.path.isdir(folder := os.path.dirname(path) or os.curdir):
        yield error("ledger", f"{folder} is no folder", "make it, or name another in ledger.url")
    elif path is not None and not os.path.exists(path):
        yield fine("ledger", f"{path} is not there yet, and is made at the first start")
    else:
        yield from _open(url, settings.ledger.namespace)


def _open(url: str, namespace: str) -> Iterator[Row]:
    try:
        store = store_for(url, namespace)
        try:
            warnings = store.open()
            with store.transaction(read=True) as transaction:
                counts, lag = transaction.count(), transaction.lag()
        finally:
            store.close()
    except LedgerUnavailableError as failure:
        yield error("ledger", f"it does not answer: {failure}", "see ledger.url, start its server")
        return
    except OniError as failure:
        text = " ".join(str(failure).split())
        yield error("ledger", text, "the daemon does not work with it as it is")
        return
    yield fine("ledger", f"it answers, and promises: {store.label}")
    for text in warnings:
        yield warning("ledger", text, "see the reference of the ledger")
    waiting = [f"{counts[state]} {state}" for state in ("uncertain", "dead") if counts[state]]
    if waiting:
        yield warning("ledger", " and ".join(waiting), "oni ledger list")
    if lag > _LATE:
        yield warning(
            "ledger", f"something has been due for {lag:.0f} s", "does a process deliver it?"
        )
