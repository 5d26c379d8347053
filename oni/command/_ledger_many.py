"""Long work on a ledger: many deliveries or keys, a group in each transaction, with a bar."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from oni.errors import DeliveryStateError, StaleClaimError, UnknownDeliveryError
from oni.interfaces import ILedgerStore
from oni.values import Delivery

__all__ = ["Bar", "progress", "prune_all", "resolve_all"]

_GROUP = 64  # deliveries that are decided in one transaction
_KEYS = 1000  # keys that are forgotten in one transaction


class Bar:
    """Shows how far something is, where a person sees it.

    Attributes:
        done: How far it is.
    """

    def __init__(self, shown: Progress | None, title: str, total: int | None) -> None:
        self.done = 0
        self._shown = shown
        self._task = None if shown is None else shown.add_task(title, total=total)

    def advance(self, number: int) -> None:
        """Say that so many more are done."""
        self.done += number
        if self._shown is not None and self._task is not None:
            self._shown.advance(self._task, number)


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Bar]:
    """Show a bar on standard error while the block runs, if a person looks and it takes long.

    Args:
        title: What is done.
        total: How many there are; None: nobody knows.
    """
    if not sys.stderr.isatty() or (total is not None and total <= _GROUP):
        yield Bar(None, title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(file=sys.stderr, highlight=False)
    with Progress(*columns, console=console, transient=True) as shown:
        yield Bar(shown, title, total)


def resolve_all(
    store: ILedgerStore,
    deliveries: Sequence[Delivery],
    decision: Literal["done", "retry"],
    who: str,
    bar: Bar,
) -> tuple[list[Delivery], list[str]]:
    """Decide about deliveries.

    Returns:
        Those that were decided as they stand now, and for each other one why it was not.
    """
    decided: list[Delivery] = []
    refused: list[str] = []
    for start in range(0, len(deliveries), _GROUP):
        group = deliveries[start : start + _GROUP]
        now: list[Delivery] = []
        with store.transaction() as transaction:
            for each in group:
                try:
                    now.append(transaction.resolve(each.handler, each.key, decision, who))
                except (DeliveryStateError, StaleClaimError, UnknownDeliveryError) as error:
                    refused.append(str(error))
        decided += now
        bar.advance(len(group))
    return decided, refused


def prune_all(store: ILedgerStore, older_than: float, bar: Bar) -> int:
    """Forget every key that has been done for so many seconds; say how many there were."""
    while True:
        with store.transaction() as transaction:
            forgotten = transaction.prune(older_than, _KEYS)
        bar.advance(forgotten)
        if forgotten < _KEYS:
            return bar.done
