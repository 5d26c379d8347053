"""Listens to sessions, and follows what each transaction does until it is committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import RLock
from typing import Any
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, sessionmaker
from twisted.logger import Logger

from oni.errors import WatchError
from oni.interfaces import IEventSources, IOutbox
from oni.sources.sqlalchemy import _mapper_events
from oni.sources.sqlalchemy._bulk import BulkStatements
from oni.sources.sqlalchemy._hand_over import HandOver, Listener
from oni.sources.sqlalchemy._models import Watch, WatchedModels
from oni.sources.sqlalchemy._pending import Pending, Row
from oni.sources.sqlalchemy._sessions import Target, check_begun, listened_on, overlap

__all__ = ["Watching", "watch"]

_log = Logger()

_FIRST = ("after_commit", "after_transaction_end")


class Watching:
    """Watches sessions for changes of models, until it is removed.

    :func:`watch` makes it. Sessions may be in any threads, each in one at a time, as always.
    """

    def __init__(self, target: Target, sources: IEventSources, outbox: IOutbox | None) -> None:
        self._target = target
        self._sources = sources
        self._outbox = outbox
        self._models = WatchedModels(self._has_sources)
        self._bulk = BulkStatements(self._models)
        self._hand_over = HandOver(sources, self._has_sources, outbox)
        self._listeners: Mapping[str, Callable[..., Any]] = {
            "after_begin": self._after_begin,
            "after_commit": self._after_commit,
            "after_flush": self._after_flush,
            "after_flush_postexec": self._after_flush_postexec,
            "after_transaction_create": self._after_transaction_create,
            "after_transaction_end": self._after_transaction_end,
            "before_commit": self._before_commit,
            "before_flush": self._before_flush,
            "do_orm_execute": self._do_orm_execute,
        }
        self._removed = False

    @property
    def models(self) -> tuple[type, ...]:
        """The models that were named, in order."""
        return tuple(self._models)

    @property
    def before_commit(self) -> tuple[Listener, ...]:
        """Those who are asked before a commit, in order."""
        return self._hand_over.listeners

    def remove(self) -> None:
        """Watch no more. The second time nothing happens.

        It is not for those whom a session tells of something, nor for the time while other
        threads' sessions are at work: SQLAlchemy cannot take a listener away that it may be about
        to call.

        What a transaction that is under way has changed is not handed over.
        """
        with _lock:
            if self._removed:
                return
            self._removed = True
            _watchings.discard(self)
            for name, listener in self._listeners.items():
                event.remove(self._target, name, listener)
            _mapper_events.unlisten()

    # --- Being made; the lock is held

    def _begin(self) -> None:
        for name, listener in self._listeners.items():
            # Others that fail after a commit would keep those behind them from hearing of it.
            event.listen(self._target, name, listener, insert=name in _FIRST)
        _mapper_events.listen()
        _watchings.add(self)

    def _add(self, models: Mapping[type, Watch], listeners: Iterable[Listener]) -> None:
        self._models.add(models)
        known = self._hand_over.listeners
        self._hand_over.listeners = tuple(dict.fromkeys((*known, *listeners)))

    def _is_of(self, sources: IEventSources, outbox: IOutbox | None) -> bool:
        return sources is self._sources and outbox is self._outbox

    def _has_sources(self, model: type) -> bool:
        known = self._sources.model_sources
        return any(each in known for each in model.__mro__)

    # --- What sessions tell

    def _pending(self, session: Session) -> Pending:
        followed = _mapper_events.pendings(session)
        if self not in followed:
            followed[self] = Pending(session, self._models, self._sources.hears_directly)
        return followed[self]

    def _known(self, session: Session) -> Pending | None:
        return _mapper_events.pendings(session).get(self)

    def _after_begin(
        self, session: Session, transaction: SessionTransaction, connection: sa.Connection
    ) -> None:
        if transaction.parent is None:
            check_begun(connection)

    def _before_flush(self, session: Session, context: object, instances: object) -> None:
        self._pending(session).capture.begin()

    def _after_flush(self, session: Session, context: object) -> None:
        pending = self._pending(session)
        for row in pending.capture.finish(session):
            pending.add(row)

    def _after_flush_postexec(self, session: Session, context: object) -> None:
        """Hand over what others changed after it was our turn before the commit."""
        self._hand_over.run_late(session, self._pending(session))

    def _do_orm_execute(self, execution: ORMExecuteState) -> sa.Result[Any] | None:
        affected = self._bulk.affected(execution)
        if not affected:
            return None
        session = execution.session
        pending = self._pending(session)
        result = self._bulk.execute(execution, affected, pending)
        self._hand_over.run_late(session, pending)  # no flush may follow
        return result

    def _after_transaction_create(self, session: Session, transaction: SessionTransaction) -> None:
        pending = self._known(session)
        if pending is not None and transaction.nested:
            pending.begin(transaction)

    def _before_commit(self, session: Session) -> None:
        pending = self._pending(session)
        savepoint = session.get_nested_transaction()
        if savepoint is not None:
            pending.commit_begins(savepoint)
        else:
            pending.rounds = 0
            self._hand_over.run(session, pending)

    def _after_commit(self, session: Session) -> None:
        """Wake who delivers. Here nothing may fail, and nothing of the user's may be called."""
        pending = self._known(session)
        if pending is None:
            return
        savepoint = session.get_nested_transaction()
        if savepoint is not None:
            pending.release(savepoint)
            return
        pending.direct.committed()
        if pending.admitted:
            try:
                self._hand_over.wake()
            except BaseException:  # noqa: BLE001 - the session would be of no use any more
                _log.failure("Delivery could not be woken after a commit; it looks by itself")

    def _after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        pending = self._known(session)
        if pending is None:
            return
        if transaction.parent is None:
            # All who watch it, at once: who is told may begin another transaction in the session.
            ended = _mapper_events.take_pendings(session)
            sent: set[Row] = set()
            for watching, each in ended.items():
                watching._tell_directly(session, each, sent)
        elif transaction.nested and pending.end(transaction):
            self._hand_over.run(session, pending)

    def _tell_directly(self, session: Session, pending: Pending, sent: set[Row]) -> None:
        """Tell what was committed, if it was. Whatever fails, whoever has committed has not."""
        try:
            pending.direct.tell(session, self._sources, sent)
        except BaseException:  # noqa: BLE001 - the rows are there
            _log.failure("Nobody could be told directly of what was committed")


def watch(
    sessions: Any,
    sources: IEventSources,
    models: Mapping[type, Watch] | Sequence[type] = (),
    *,
    before_commit: Iterable[Listener] = (),
    outbox: IOutbox | None = None,
) -> Watching:
    """Let changes of models become events, admitted in the transaction that makes them.

    Calling it again for the same sessions and sources adds to what is watched already, and gives
    the same object.

    Args:
        sessions: A ``sessionmaker``, ``scoped_session``, ``async_sessionmaker``,
            ``async_scoped_session``, a class of sessions, or one session.
        sources: Makes events of changes, and remembers their keys.
        models: The mapped classes whose changes are watched, and how. Models that have event
            sources are watched anyway, and their bulk statements let pass.
        before_commit: Functions that are called with the session and the changes before each
            commit that has some, in the thread of that commit. What they change is committed,
            too, and told of in another round; if one raises, the commit does not happen.
        outbox: Where events are put when the ledger is in another database than the models.

    Raises:
        WatchError: This cannot be watched, or is watched in another way.
        UnsafeLedgerError: The engine is for SQLite, and was not prepared by
            :func:`oni.ledger.sqlalchemy.prepare_engine`.
    """
    watches = models if isinstance(models, Mapping) else dict.fromkeys(models, Watch())
    listeners = tuple(before_commit)
    for listener in listeners:
        if not callable(listener):
            raise WatchError(f"{listener!r} cannot be called before a commit")
    _check_engine(sessions)
    target = listened_on(sessions)
    with _lock:
        for watching in _watchings:
            if watching._target is target and watching._is_of(sources, outbox):
                watching._add(watches, listeners)
                return watching
            if watching._sources is sources and overlap(watching._target, target):
                raise WatchError(
                    f"sessions of {target!r} are watched through {watching._target!r} already, "
                    f"for the same sources: every change would be told of twice"
                )
        watching = Watching(target, sources, outbox)
        watching._add(watches, listeners)
        watching._begin()
        return watching


def _check_engine(sessions: object) -> None:
    """Refuse an engine that is known already, and that cannot be relied on."""
    if isinstance(sessions, sessionmaker):
        bind = sessions.kw.get("bind")
        if isinstance(bind, sa.Engine) and bind.dialect.name == "sqlite":
            with bind.connect() as connection, connection.begin():
                check_begun(connection)


_lock = RLock()
_watchings: WeakSet[Watching] = WeakSet()
