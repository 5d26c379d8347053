"""What becomes of records in a request, and the transaction that it is told with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from threading import get_ident, local
from typing import Any

from pyramid.httpexceptions import HTTPException
from pyramid.registry import Registry
from pyramid.request import Request
from pyramid.response import Response
from sqlalchemy.orm import scoped_session
from transaction.interfaces import NoTransaction
from twisted.logger import Logger
from zope.sqlalchemy import mark_changed

from oni.dispatcher import EventDispatcher
from oni.errors import OtherThreadError, TransactionOverError
from oni.listeners._transaction import ResourceEvents
from oni.listeners.events import ResourceAction
from oni.listeners.pyramid._attempts import PlainAttempt, TransactionAttempt

__all__ = ["Home", "RequestEvents", "events_tween_factory"]

_log = Logger()

_outermost: ContextVar[Request | None] = ContextVar("_outermost", default=None)

# What is kept in a request, whose environment may be another application's, too.
_NAME = "resource_events"  # the property
_THREAD = "_oni_listeners_thread"  # in which it is handled; None once it is answered


@dataclass(slots=True, eq=False)
class Home:
    """What the requests of one application share.

    Attributes:
        dispatcher: Where events are fired.
        sources: Event sources that keep them for listeners; or None.
        session: Gives a request's session, whose transaction they are kept in.
    """

    dispatcher: EventDispatcher
    sources: Any = None
    session: Callable[[Request], Any] | None = None

    def session_of(self, request: Request) -> Any:
        """Give a request's session, None where no event sources ask for it."""
        session = None if self.session is None else self.session(request)
        # zope.sqlalchemy knows this thread's session, not what stands for those of all threads.
        return session() if isinstance(session, scoped_session) else session


class RequestEvents:
    """What becomes of records in a request: ``request.resource_events``.

    What is said is told with the transaction that the request has just then; one that is tried
    again, or a second one in the same request, begins with nothing. Requests within a request
    say it with the outer one's.

    Args:
        request: The request.
        home: What it shares with the application's others.
    """

    def __init__(self, request: Request, home: Home) -> None:
        self._request = request
        self._home = home
        self._attempt: TransactionAttempt | None = None  # the latest
        self._plain: PlainAttempt | None = None
        request.add_finished_callback(self._finished)

    def record(
        self,
        resource_name: str,
        action: ResourceAction,
        *,
        id: Any,
        new: Mapping[str, Any] | None = None,
        old: Mapping[str, Any] | None = None,
        uri: str | None = None,
        user_id: str | None = None,
        matched: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what becomes of a record.

        Args:
            resource_name: The resource.
            action: What happens.
            id: The record's id.
            new: What it is afterwards, or what was read.
            old: What it was before; for a deletion what the store keeps in its place, if anything.
            uri: Where it is served; the request's path if nothing is said.
            user_id: Who does it; whoever the request is authenticated for if nothing is said.
            matched: What the URL matched, by name; the request's ``matchdict`` if nothing is said.

        Raises:
            TransactionOverError: The transaction is committed, or about to be, or rolled back.
            OtherThreadError: The request's transaction belongs to another thread.
        """
        request = self._request
        if user_id is None:
            known = request.authenticated_userid  # a security policy may ask a database
            user_id = None if known is None else str(known)
        self._current().events().record(
            resource_name,
            action,
            id=id,
            uri=request.path if uri is None else uri,
            user_id=user_id,
            new=new,
            old=old,
            matched=(request.matchdict or {}) if matched is None else matched,
        )

    def _current(self) -> TransactionAttempt | PlainAttempt:
        """Give the attempt that goes on, or begin one."""
        outermost = _outermost.get()
        if outermost is None or outermost.registry is not self._request.registry:
            return self._own()
        events: RequestEvents = outermost.resource_events
        return events._own()

    def _own(self) -> TransactionAttempt | PlainAttempt:
        manager = _manager_of(self._request)
        if manager is not None:
            self._attempt = self._attempt_in(manager)
        if self._attempt is not None:  # if nobody has it, it is about to be committed
            return self._attempt
        if self._plain is None:
            self._plain = self._plain_attempt()
        return self._plain

    def _attempt_in(self, manager: Any) -> TransactionAttempt:
        if isinstance(manager, local):  # it would begin a transaction that nobody commits
            thread = vars(self._request).get(_THREAD)
            if thread is not None and thread != get_ident():
                raise OtherThreadError
        transaction = manager.get()
        try:
            found: TransactionAttempt = transaction.data(self._home)
        except KeyError:
            found = TransactionAttempt(
                transaction, manager, self._events(lambda: self._joined_connection(manager))
            )
            transaction.set_data(self._home, found)
        return found

    def _plain_attempt(self) -> PlainAttempt:
        request = self._request
        if vars(request).get(_THREAD, get_ident()) is None:
            raise TransactionOverError
        session = self._home.session_of(request)
        attempt = PlainAttempt(self._events(lambda: session.connection()), session)
        request.add_finished_callback(lambda _: _warn_of(attempt, request.path))
        return attempt

    def _events(self, connection: Callable[[], Any]) -> ResourceEvents:
        home = self._home
        if home.sources is None:
            return ResourceEvents(home.dispatcher, self._request)
        return ResourceEvents(
            home.dispatcher, self._request, sources=home.sources, connection=connection
        )

    def _joined_connection(self, manager: Any) -> Any:
        """Give the session's connection, whose transaction is committed with all the others."""
        session = self._home.session_of(self._request)
        connection = session.connection()
        mark_changed(session, manager)  # else one that has only read would be rolled back
        return connection

    def _handled(self, response: Response) -> None:
        """The application has answered: for what was said outside a transaction that is all."""
        if self._plain is not None:
            if response.status_int < 400:
                self._plain.succeed()
            else:
                self._plain.fail()

    def _failed(self) -> None:
        if self._plain is not None:
            self._plain.fail()

    def _finished(self, request: Request) -> None:
        """Let the request be freed at once: this would be a cycle, a session with it."""
        if all(each is None or each.is_over for each in (self._attempt, self._plain)):
            vars(request).pop(_NAME, None)


def _manager_of(request: Request) -> Any:
    """Give the transaction manager of a request that has begun a transaction, or None."""
    manager = getattr(request, "tm", None)
    if manager is None:
        return None
    if manager.explicit:
        try:
            manager.get()
        except NoTransaction:
            return None
        return manager
    # Others begin one when they are asked whether there is one.
    is_active = "tm.active" in request.environ or "repoze.tm.active" in request.environ
    return manager if is_active else None


def _warn_of(attempt: PlainAttempt, path: str) -> None:
    if not attempt.is_over:
        attempt.is_over = True
        _log.error(
            "What a request for {path} said of records is told to nobody: it had neither a "
            "transaction nor the tween oni.listeners.pyramid.events_tween_factory around it",
            path=path,
        )


def events_tween_factory(
    handler: Callable[[Request], Response], registry: Registry
) -> Callable[[Request], Response]:
    """Make the tween that tells what was said by requests without a transaction manager.

    It is within the one of ``pyramid_tm`` and the one for exception views.
    """

    def events_tween(request: Request) -> Response:
        kept = vars(request)
        kept[_THREAD] = get_ident()
        token = _outermost.set(request)
        try:
            try:
                response = handler(request)
            except HTTPException as answer:  # raised, and an answer as good as one returned
                if _NAME in kept:
                    request.resource_events._handled(answer)
                raise
            except BaseException:
                if _NAME in kept:
                    request.resource_events._failed()
                raise
            if _NAME in kept:  # most requests have nothing to say
                request.resource_events._handled(response)
        finally:
            _outermost.reset(token)
            kept[_THREAD] = None
        return response

    return events_tween
