"""What the workers of a run do with an event: up to three handlers in two phases.

``book`` (during) writes a row into the ledger's own database, as a part of its transaction.
``mail`` and ``pay`` (after) have effects elsewhere, lines of the history: ``mail`` at least once,
``pay`` at most once, and only for every fourth event. Before each of them it is looked up whether
``book`` had completed.

The worker calls :func:`attach` first; a process that is started by a command finds its history by
the environment variable ``ONI_HARNESS_HISTORY``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from oni.values import Event
from tests.integration.kill_harness.history import History
from tests.integration.kill_harness.places import write_effect
from tests.integration.kill_harness.points import Points

__all__ = ["HISTORY", "attach", "configure", "event_of", "handlers_of", "key_of"]

HISTORY = "ONI_HARNESS_HISTORY"
MAX_ATTEMPTS = 100
POLL = 0.05  # seconds
EVERY = 4  # order is one that is paid for

_attached: list[tuple[History, Points]] = []


def key_of(number: int) -> str:
    """Give the key of the event with a number."""
    return f"order/{number}"


def event_of(number: int) -> Event:
    """Give the event with a number."""
    group = "order" if number % EVERY else "order.paid"
    return Event(group=group, key=key_of(number), context={"number": number})


def handlers_of(number: int) -> tuple[str, ...]:
    """Give the names of the handlers that the event with a number is for."""
    return ("book", "mail") if number % EVERY else ("book", "mail", "pay")


def attach(history: History, points: Points) -> None:
    """Say where what happens is written, and at which points."""
    _attached.append((history, points))


def configure(sources: Any) -> None:
    """Register the handlers."""
    if not _attached:
        history = History(Path(os.environ[HISTORY]))
        attach(history, Points(history))
    history, points = _attached[-1]
    history.add("started", owner=sources.ledger.owner)

    def book(event: Event, transaction: Any) -> None:
        points.hit("book.begun")
        write_effect(transaction, event.key, event.attempt)
        points.hit("book.written")

    async def mail(event: Event) -> None:
        await send("mail", event)

    async def pay(event: Event) -> None:
        await send("pay", event)

    async def send(handler: str, event: Event) -> None:
        record = await sources.ledger.show(event.key)
        earlier = {each.handler: each.state for each in record.deliveries}["book"]
        points.hit(f"{handler}.begun")
        history.add(
            "effect",
            handler=handler,
            key=event.key,
            attempt=event.attempt,
            idempotency_key=event.idempotency_key,
            earlier=earlier,
        )
        points.hit(f"{handler}.sent")

    # A worker does not hear what another process admits, and many attempts die in a storm.
    sources.configure(poll=POLL)
    for group, handler, phase, on_crash in (
        ("^order", book, "during", "transaction"),
        ("^order", mail, "after", "retry"),
        (r"\.paid$", pay, "after", "park"),
    ):
        sources.register_group_handler(
            group,
            handler,
            name=handler.__name__,
            phase=phase,
            on_crash=on_crash,
            max_attempts=MAX_ATTEMPTS,
        )
