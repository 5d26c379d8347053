"""An act: what somebody outside wants to happen, as the server's dispatcher sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw
from twisted.internet.defer import CancelledError, Deferred

from oni.carriers import Handshake
from oni.channels import check_event, namespace_of
from oni.errors import ReadOnlyActError, Refused
from oni.protocol import ErrorCode
from oni.server._grants import Grant

if TYPE_CHECKING:
    from oni.server._session import Session
    from oni.server.auth._authentication import Proof

__all__ = [
    "DEFAULT_EVENT",
    "Act",
    "Reply",
    "UnprovenError",
    "bad_request",
    "proof_of",
    "proven_for",
    "put_proof",
    "refusal",
    "reply_to",
    "seal",
    "sealed_data",
    "session_of",
]

#: The name of an event that nobody named.
DEFAULT_EVENT = "message"

_NO_GRANT = Grant()
_MUTABLE = frozenset(("data", "event", "grant", "tags"))


class UnprovenError(Refused):
    """A proof is not accepted: a client may have another one."""


class Act:
    """Something that is about to happen: a client's command, an API call, or ``oni.act``.

    Handlers in ``before`` may set ``data``, ``tags``, ``event`` and ``grant``, or change data and
    tags in place; a handler is still matched by the event's name as the act began with it. From
    ``during`` on nothing changes any more.

    Attributes:
        action: What is to happen: ``connect``, ``subscribe``, ``publish``, ``unsubscribe``,
            ``disconnect``, or a name of the application's own.
        channel: The channel it concerns, ``""`` if none.
        namespace: The channel's namespace, ``""`` if none.
        event: The name of the event that is published.
        data: What comes with it, decoded JSON.
        tags: Short strings that travel beside the data.
        user: Who acts, ``""`` if nobody knows.
        client: The id of the session that acts, ``""`` if none does.
        token: The proof that came with it, ``""`` if none did.
        request: What else was asked for: the command of :mod:`oni.protocol`, an
            :class:`oni.server.Order` to somebody's sessions, or None.
        grant: What a connect or subscribe is given besides the permission, a
            :class:`oni.server.Grant`.
        refusal: Why it does not happen, None as long as nothing speaks against it. Handlers in
            ``after`` see it.
    """

    __slots__ = (
        "_data",
        "_json",
        "_proof",
        "_proven_at",
        "_reply",
        "_sealed",
        "_session",
        "action",
        "channel",
        "client",
        "event",
        "grant",
        "namespace",
        "refusal",
        "request",
        "tags",
        "token",
        "user",
    )

    action: str
    channel: str
    namespace: str
    event: str
    tags: Mapping[str, str]
    user: str
    client: str
    token: str
    request: Any
    grant: Grant
    refusal: Refused | None
    _data: Any
    _json: bytes | None
    _proof: Proof  # only there where it was looked for one
    _proven_at: float  # as above, by the clock of the session
    _reply: Reply
    _sealed: bool
    _session: Session | None

    def __init__(
        self,
        action: str,
        *,
        channel: str = "",
        event: str = "",
        data: Any = None,
        tags: Mapping[str, str] | None = None,
        user: str = "",
        client: str = "",
        token: str = "",
        request: Any = None,
        session: Session | None = None,
    ) -> None:
        """Describe what is to happen; :class:`oni.server.Oni` makes it so.

        Args:
            action: See the class, as for the rest.
            channel: Where.
            event: The event's name.
            data: A value, or a :class:`msgspec.Raw` of checked JSON.
            tags: A mapping, which is copied.
            user: Who.
            client: From which session.
            token: With which proof.
            request: With which further wishes.
            session: The session itself, where it is one's.
        """
        put = object.__setattr__
        put(self, "action", action)
        put(self, "channel", channel)
        put(self, "namespace", namespace_of(channel))
        put(self, "event", event)
        put(self, "tags", dict(tags or {}))
        put(self, "user", user)
        put(self, "client", client)
        put(self, "token", token)
        put(self, "request", request)
        put(self, "grant", _NO_GRANT)
        put(self, "refusal", None)
        raw = isinstance(data, Raw)
        put(self, "_data", UNSET if raw else data)
        put(self, "_json", bytes(data) if raw else None)
        put(self, "_reply", Reply(self))
        put(self, "_sealed", False)
        put(self, "_session", session)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _MUTABLE or self._sealed:
            raise ReadOnlyActError(name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise ReadOnlyActError(name)

    def __repr__(self) -> str:
        """Say who does what where, without the data."""
        known = (("channel", self.channel), ("event", self.event), ("user", self.user))
        parts = [f"{name}={value!r}" for name, value in known if value]
        return f"<Act {self.action} {' '.join(parts)}>"

    @property
    def data(self) -> Any:
        """What comes with the act, decoded when it is first looked at."""
        if self._data is UNSET:
            object.__setattr__(self, "_data", msgspec.json.decode(self._json or b"null"))
            if not self._sealed:
                object.__setattr__(self, "_json", None)  # it may be changed in place now
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        object.__setattr__(self, "_data", value)
        object.__setattr__(self, "_json", None)

    @property
    def meta(self) -> Any:
        """What whoever proved the user tells handlers, and nobody else."""
        proof = proof_of(self)
        if proof is not None and proof.identity is not None:
            return proof.identity.meta
        return None if self._session is None else self._session.meta

    @property
    def handshake(self) -> Handshake | None:
        """The request with which the connection began.

        It is there while the client connects, where an application says who that is by
        :meth:`oni.server.Oni.authenticate`; else it is None.
        """
        return None if self._session is None else self._session.handshake

    @property
    def details(self) -> dict[str, str]:
        """What the act is matched by, at this moment."""
        return {
            "action": self.action,
            "channel": self.channel,
            "namespace": self.namespace,
            "event": self.event,
            "user": self.user,
            "client": self.client,
        }


class Reply:
    """What becomes of an act: one answer, given once.

    Attributes:
        deferred: Fires with the result, or fails with :class:`oni.errors.Refused`. Cancelling
            it cancels the act, and only then it fails with ``CancelledError``.
        cancel_act: Cancels the act's event; set when it is fired.
    """

    __slots__ = ("_act", "_is_given_up", "cancel_act", "deferred")

    def __init__(self, act: Act) -> None:
        self._act = act
        self._is_given_up = False
        self.cancel_act: Callable[[], object] | None = None
        self.deferred: Deferred[Any] = Deferred(self._cancelled)

    @property
    def given(self) -> bool:
        """Whether there is an answer."""
        return bool(self.deferred.called)

    def succeed(self, result: Any) -> None:
        """Answer with the act's result."""
        if not self.given:
            self.deferred.callback(result)

    def fail(self, error: BaseException | None) -> None:
        """Answer that the act did not happen. What is not a verdict is an internal error.

        An act that was cancelled is no fault: it was not available any more.
        """
        if self.given:
            return
        cancelled = isinstance(error, CancelledError)
        code = ErrorCode.NOT_AVAILABLE if cancelled else ErrorCode.INTERNAL
        reason = error if isinstance(error, Refused) else refusal(code)
        object.__setattr__(self._act, "refusal", reason)
        self.deferred.errback(CancelledError() if self._is_given_up else reason)

    def cancel(self) -> None:
        """Cancel the act, where it has not been answered."""
        if not self.given and self.cancel_act is not None:
            self.cancel_act()

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        self._is_given_up = True
        if self.cancel_act is not None:
            self.cancel_act()


def reply_to(act: Act) -> Reply:
    """Give the reply that an act waits for."""
    return act._reply


def session_of(act: Act) -> Session | None:
    """Give the session that acts, None where it is not a session."""
    return act._session


def proof_of(act: Act) -> Proof | None:
    """Give what came of looking at an act's proof, None where there is nothing to prove."""
    return getattr(act, "_proof", None)


def put_proof(act: Act, proof: Proof) -> None:
    """Note what came of looking at an act's proof, before the act is fired."""
    put = object.__setattr__
    put(act, "_proof", proof)
    if act._session is not None:
        put(act, "_proven_at", act._session.clock.seconds())
    if proof.identity is not None:
        put(act, "user", proof.identity.user)
    if proof.grant is not None:
        put(act, "grant", proof.grant)


def proven_for(act: Act) -> float | None:
    """Say how many seconds from now an act's proof still holds, None for ever.

    Handlers may have taken long since it was looked at. It is negative where it holds no more.
    """
    proof, session = proof_of(act), act._session
    ttl = None if proof is None or proof.grant is None else proof.grant.ttl
    if ttl is None or session is None:
        return ttl
    return ttl - (session.clock.seconds() - act._proven_at)


def seal(act: Act) -> None:
    """Let nobody change the act any more.

    Raises:
        TypeError: The handlers have put something into its data or grant that is not JSON, or
            made its grant something else.
        EventNameError: They have given the event a name that no event may have.
    """
    if act._sealed:
        return
    if act._json is None:
        object.__setattr__(act, "_json", _encode(act._data))
        object.__setattr__(act, "_data", UNSET)
    if act.event:
        check_event(act.event)
    if act.grant is not _NO_GRANT:
        if not isinstance(act.grant, Grant):
            raise TypeError(f"an act's grant is a Grant, not {act.grant!r}")
        object.__setattr__(act, "grant", msgspec.json.decode(_encode(act.grant), type=Grant))
    if act._session is not None:
        _bound(act)
    object.__setattr__(act, "tags", MappingProxyType(dict(act.tags)))
    object.__setattr__(act, "_sealed", True)


def _bound(act: Act) -> None:
    """Let nothing last longer than what it was proven with, whatever handlers have granted."""
    bound = proven_for(act)
    if bound is not None and (act.grant.ttl is None or act.grant.ttl > bound):
        object.__setattr__(act, "grant", msgspec.structs.replace(act.grant, ttl=bound))


def sealed_data(act: Act) -> Raw:
    """Give the data of a sealed act as JSON."""
    return Raw(act._json or b"null")


def refusal(error: ErrorCode) -> Refused:
    """Make a refusal with one of the protocol's codes."""
    return Refused(error.code, error.message, error.temporary)


def bad_request(reason: object) -> Refused:
    """Make a refusal that says what is wrong with the request."""
    return Refused(ErrorCode.BAD_REQUEST.code, f"bad request: {str(reason)[:200]}")


def _encode(data: Any) -> bytes:
    try:
        return msgspec.json.encode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TypeError(f"the act's data is not JSON: {error}") from error
