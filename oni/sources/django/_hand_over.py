"""Events on their way into the ledger, in the transaction that they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db import connections, transaction
from twisted.logger import Logger

from oni.errors import UnkeptContextError
from oni.sources.django._home import home
from oni.values import Admission, Event, ModelChange

__all__ = ["hand_over", "hand_over_changes", "wake"]

_log = Logger()


def hand_over(using: str, events: Iterable[Event]) -> Sequence[tuple[Event, Admission]]:
    """Admit events in a database's transaction, or in one of their own where there is none.

    They are delivered after its commit, and never were if it is rolled back.

    Returns:
        The events, each with what became of it. Where they are written into an outbox it is not
        known yet: they count as admitted.
    """
    events = list(events)
    if not events:
        return []
    with transaction.atomic(using=using, savepoint=False):
        admissions = home.admit(connections[using], events)
        _wake_after_commit(using)
    return list(zip(events, admissions, strict=True))


def hand_over_changes(using: str, changes: Iterable[ModelChange]) -> None:
    """Admit an event for each change that somebody wants to hear of.

    Raises:
        UnkeptContextError: A change has values that cannot be kept. It says of which row.
    """
    events = home.sources.change_events(changes)
    try:
        hand_over(using, events)
    except UnkeptContextError as error:
        change = next(each.context["change"] for each in events if each.key == error.key)
        raise UnkeptContextError(
            error.key,
            error.field,
            f"{error.reason}. It is {change.model} {change.id!r}; let watch({change.model}, "
            f"columns=[...]) leave out what cannot be kept",
        ) from error


def _wake_after_commit(using: str) -> None:
    """Let there be a wake after the commit: one is enough for all in the same savepoint."""
    connection = connections[using]
    hooks = connection.run_on_commit
    if not (hooks and hooks[-1][1] is wake and hooks[-1][0] == set(connection.savepoint_ids)):
        transaction.on_commit(wake, using=using, robust=True)


def wake() -> None:
    """Look for what is due, soon: the one function that is called after a commit.

    It never fails, whatever happens: an exception would reach whoever has saved, though the row is
    there, and would keep others from being called. A wake that is lost costs time and nothing
    else, as what is due is looked for now and then.
    """
    try:
        home.wake()
    except BaseException:  # noqa: BLE001 - see above
        _log.failure("The delivery of what was committed could not be begun")
