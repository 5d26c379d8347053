"""Proves, before an act is fired, who acts and with which permission.

What was proven stands in the act: it is matched by its user from the first handler on. A proof
that fails does not keep the act from being fired; the server's own handler, the first one in
``before``, refuses it. So handlers in ``after`` hear of every refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger

from oni.errors import Refused
from oni.protocol import ErrorCode
from oni.server._acts import Act, UnprovenError, put_proof, refusal, session_of
from oni.server._grants import Grant
from oni.server._settings import Settings
from oni.server.auth._identity import Identity
from oni.server.auth._jwt import BadTokenError
from oni.server.auth._tokens import ExpiredTokenError, Tokens

__all__ = ["PROVEN", "Authentication", "Proof"]

_log = Logger()

#: The actions with which a proof may come.
PROVEN = frozenset(("connect", "refresh", "sub_refresh", "subscribe"))


class Proof(Struct, frozen=True, kw_only=True):
    """What came of looking at an act's proof.

    Attributes:
        verdict: Why the act is refused, None where nothing speaks against it.
        identity: Who acts, None where nobody said so.
        permission: What a subscription token gives, None where there was none.
    """

    verdict: Refused | None = None
    identity: Identity | None = None
    permission: Grant | None = None

    @property
    def grant(self) -> Grant | None:
        """What comes with it."""
        return self.permission if self.identity is None else self.identity.grant


class Authentication:
    """Asks the application's functions, then looks at tokens.

    Args:
        settings: What is required.
        tokens: Proves tokens.
    """

    def __init__(self, settings: Settings, tokens: Tokens) -> None:
        self._settings = settings
        self._tokens = tokens
        self._functions: list[Callable[[Act], Any]] = []

    @property
    def asks(self) -> bool:
        """Whether an application wants to be asked who somebody is."""
        return bool(self._functions)

    def add(self, function: Callable[[Act], Any]) -> None:
        """Ask a function, after those that were added before.

        Raises:
            TypeError: It cannot be called.
        """
        if not callable(function):
            raise TypeError(f"{function!r} cannot be called")
        self._functions.append(function)

    def prove(self, act: Act) -> Deferred[None] | None:
        """Look at the proof of a session's act, and note in the act what came of it.

        Returns:
            A Deferred that fires when that has happened, None where it has happened already.
            Cancelling it cancels the function that is asked.
        """
        if act.action in ("subscribe", "sub_refresh"):
            put_proof(act, self._permission(act))
        elif self._functions:
            return Deferred.fromCoroutine(self._ask(act))
        else:
            put_proof(act, self._identified(act, self._identity(act)))
        return None

    async def _ask(self, act: Act) -> None:
        try:
            found = await self._asked(act)
        except CancelledError:
            raise
        except Refused as verdict:
            found = Proof(verdict=verdict)
        except Exception:  # noqa: BLE001 - an application's function may fail in any way
            _log.failure("{act}: it could not be said who it is", act=act)
            found = Proof(verdict=refusal(ErrorCode.INTERNAL))
        put_proof(act, self._identified(act, found))

    async def _asked(self, act: Act) -> Proof:
        for function in self._functions:
            answer = await maybeDeferred(function, act)
            if isinstance(answer, Identity):
                if not isinstance(answer.user, str):
                    raise TypeError(f"{function!r} gave a user that is no str: {answer.user!r}")
                return Proof(identity=answer)
            if answer is not None:
                raise TypeError(f"{function!r} gave no Identity, and not None, but {answer!r}")
        return self._identity(act)

    def _identity(self, act: Act) -> Proof:
        """Look at a connection token."""
        if not act.token:
            return Proof()
        if not self._tokens:
            # What cannot be proven is not taken for nothing, unless it is for an application.
            verdict = refusal(ErrorCode.UNAUTHORIZED) if act.action == "connect" else None
            return Proof(verdict=verdict)
        try:
            identity = self._tokens.identity(act.token)
        except BadTokenError as error:
            return _refused(act, error, ErrorCode.UNAUTHORIZED)
        if not identity.user and not self._settings.auth.anonymous:
            return _refused(act, "it names nobody", ErrorCode.UNAUTHORIZED)
        return Proof(identity=identity)

    def _identified(self, act: Act, proof: Proof) -> Proof:
        """Let nobody become somebody else by a refresh, nor stay somebody without a proof."""
        if act.action != "refresh" or proof.verdict is not None:
            return proof
        if proof.identity is None and not act.user:
            return proof
        if proof.identity is None or proof.identity.user != act.user:
            return _refused(act, "it is not this session's user", ErrorCode.UNAUTHORIZED)
        return proof

    def _permission(self, act: Act) -> Proof:
        """Look at a subscription token."""
        session = session_of(act)
        if not self._tokens or not act.token or session is None:
            return Proof()
        try:
            grant = self._tokens.permission(act.token, act.channel, act.user, act.client)
        except BadTokenError as error:
            return _refused(act, error, ErrorCode.PERMISSION_DENIED)
        return Proof(permission=grant)


def _refused(act: Act, reason: object, code: ErrorCode) -> Proof:
    """Refuse a token. Clients get another one where theirs has expired, and only there."""
    _log.debug("{act}: the token is refused: {reason}", act=act, reason=reason)
    if isinstance(reason, ExpiredTokenError):
        code = ErrorCode.TOKEN_EXPIRED
    return Proof(verdict=UnprovenError(code.code, code.message))
