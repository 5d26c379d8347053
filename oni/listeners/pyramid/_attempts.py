"""What becomes of records in one attempt of one transaction, told when that is committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transaction.interfaces import (
    DoomedTransaction,
    IDataManagerSavepoint,
    ISavepointDataManager,
)
from zope.interface import implementer

from oni.errors import EventAbortedError, TransactionOverError
from oni.listeners._transaction import ResourceEvents

__all__ = ["PlainAttempt", "TransactionAttempt"]


@implementer(ISavepointDataManager)
class TransactionAttempt:
    """An attempt of a transaction of the ``transaction`` package.

    Subscribers are told in a hook before the commit: there they may still use what joins the
    transaction then, a session for example. But a hook that raises leaves a transaction as it
    was, to be committed by whoever tries again. So what a subscriber raises is raised where the
    resources begin to be committed, the first of them being this: then all of them are aborted,
    as after every other failure, and the transaction cannot be committed any more.

    Attributes:
        is_over: Whether nothing can be said in it any more.

    Args:
        transaction: The transaction.
        manager: Its manager.
        events: What is said in it.
    """

    def __init__(self, transaction: Any, manager: Any, events: ResourceEvents) -> None:
        self.transaction_manager = manager
        self._transaction = transaction
        self._events = events
        self._veto: BaseException | None = None
        self._is_armed = False
        self._is_joined = False
        self._is_telling = False
        self.is_over = False
        self._join()
        transaction.addAfterCommitHook(self._ended)
        transaction.addBeforeAbortHook(self._ended, (False,))

    def events(self) -> ResourceEvents:
        """Give the events, to say something.

        Raises:
            TransactionOverError: The transaction is over, or past its hooks.
        """
        if self.is_over:
            raise TransactionOverError
        self._join()
        self._arm()
        return self._events

    def _arm(self) -> None:
        if not self._is_armed:
            self._transaction.addBeforeCommitHook(self._tell)
            self._is_armed = True

    def _join(self) -> None:
        if not self._is_joined:
            try:
                self._transaction.join(self)
            except ValueError as error:
                raise TransactionOverError from error
            self._is_joined = True

    def _tell(self) -> None:
        """Tell subscribers; what is said after that is told by another hook."""
        self._is_armed = False
        if self._is_telling:  # a subscriber commits, and others might still veto
            self._veto = TransactionOverError()
            return
        self._is_telling = True
        try:
            self._events.before_commit()
        except EventAbortedError as error:
            self._veto = error.__cause__ or error
        except BaseException as error:  # noqa: BLE001 - it is raised later
            self._veto = error
        finally:
            self._is_telling = False
        if self.is_over:  # a subscriber has ended it; a commit of what is left would succeed
            raise self._veto or TransactionOverError()
        if self._transaction.isDoomed():  # which a commit asks before its hooks, not after them
            self._veto = self._veto or DoomedTransaction("a subscriber has doomed it")

    def _ended(self, is_committed: bool) -> None:
        self.is_over = True
        if is_committed:
            self._events.committed()
        else:
            self._events.rolled_back()

    # What follows is ISavepointDataManager.

    def tpc_begin(self, transaction: Any) -> None:
        """Let the commit fail if somebody has vetoed, or something was said and told to nobody.

        That is so when it was said after the hooks were called, or when another hook failed before
        this one's, which is forgotten then, and somebody commits all the same.
        """
        self.is_over = True
        veto, self._veto = self._veto, None
        if veto is not None:
            raise veto
        if self._is_armed:
            raise TransactionOverError

    def commit(self, transaction: Any) -> None:
        """Do nothing."""

    def tpc_vote(self, transaction: Any) -> None:
        """Do nothing."""

    def tpc_finish(self, transaction: Any) -> None:
        """Do nothing."""

    def tpc_abort(self, transaction: Any) -> None:
        """Do nothing."""

    def abort(self, transaction: Any) -> None:
        """Forget everything: the transaction is aborted, or a savepoint before all this is."""
        self._events.rolled_back()
        self._is_joined = False

    def savepoint(self) -> Savepoint:
        """Give what goes back to what was said until now."""
        go_back = self._events.savepoint()

        def rollback() -> None:
            go_back()
            self._arm()  # what was told since, of what was said before, is to be told again

        return Savepoint(rollback)

    def sortKey(self) -> str:
        """Let this be the first: what is vetoed is flushed nowhere."""
        return "!oni.listeners"


@implementer(IDataManagerSavepoint)
class Savepoint:
    """A savepoint.

    Args:
        rollback: Goes back to it.
    """

    def __init__(self, rollback: Callable[[], None]) -> None:
        self.rollback = rollback


class PlainAttempt:
    """A request that no transaction manager cares for: what it says is told when it succeeds.

    Args:
        events: What is said in it.
        session: The session that belongs to it, and keeps events for listeners; or None.
    """

    def __init__(self, events: ResourceEvents, session: Any) -> None:
        self._events = events
        self._session = session
        self.is_over = False

    def events(self) -> ResourceEvents:
        """Give the events, to say something.

        Raises:
            TransactionOverError: The request is over.
        """
        if self.is_over:
            raise TransactionOverError
        return self._events

    def succeed(self) -> None:
        """Tell subscribers, commit the session, tell those that hear after that."""
        try:
            self._events.before_commit()
            self.is_over = True
            if self._session is not None:
                self._session.commit()
        except BaseException as error:
            self.fail()
            if isinstance(error, EventAbortedError) and error.__cause__ is not None:
                raise error.__cause__ from None
            raise
        self._events.committed()

    def fail(self) -> None:
        """Tell nobody; roll the session back."""
        self.is_over = True
        if self._session is not None:
            self._session.rollback()
