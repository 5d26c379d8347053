"""The ledger of a worker's process: which messages its watchers are done with."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from oni.blocking import setup
from oni.errors import LedgerBusyError, LedgerUnavailableError, NotNowError
from oni.interfaces import ILedger
from oni.ledger import MAX_KEY_BYTES
from oni.values import Claim, Handling, LedgerEvent
from oni.watchers.celery._messages import Heard

__all__ = ["Inbox", "NotYetError", "in_reactor"]

_log = Logger()

_FOR_EVER = 2**31 - 1  # attempts
_PATIENCE = 30.0  # seconds, for the ledger's database
_TIMES = 5  # to say that something is done, a second between them


class NotYetError(Exception):
    """Somebody else has it just now, or it is not due."""


def in_reactor(function: Callable[[], Any], seconds: float | None = None) -> Any:
    """Call a function in the reactor's thread, and wait for what its Deferred or coroutine gives.

    The reactor is started where it does not run: not before the first call, as a worker forks.
    """
    setup()
    import crochet

    def call() -> Any:
        result = function()
        return result if isinstance(result, Deferred) else Deferred.fromCoroutine(_wait(result))

    waiting = crochet.run_in_reactor(call)()
    try:
        return waiting.wait(threading.TIMEOUT_MAX if seconds is None else seconds)
    except crochet.TimeoutError:
        waiting.cancel()
        raise


async def _wait(awaitable: Any) -> Any:
    return await awaitable


class Inbox:
    """Lets each part of a watcher deal with a message once, in any of several processes.

    Everything is called in a worker's thread, and blocks.

    Args:
        make_ledger: Makes the ledger, in each process anew.
        within: Whether a part is called within the transaction that completes it.
    """

    def __init__(self, make_ledger: Callable[[], ILedger], within: bool) -> None:
        self._make_ledger = make_ledger
        self._on_crash: Any = "transaction" if within else "retry"
        self._lock = threading.Lock()
        self._ledger: ILedger | None = None
        self._process = 0
        self._is_away = False

    def _open(self) -> ILedger:
        """Give the ledger, started, in whichever process this is."""
        with self._lock:
            if self._process != os.getpid():
                self._process, self._ledger = os.getpid(), None
            if self._ledger is None:
                ledger = self._make_ledger()
                in_reactor(ledger.start, _PATIENCE)
                self._ledger = ledger
            return self._ledger

    def handle(self, heard: Heard, parts: Mapping[str, Callable[[Any], Any]]) -> list[Exception]:
        """Call those parts that have not dealt with a message before.

        Args:
            heard: The message.
            parts: By name. Each is given the transaction, or None.

        Returns:
            What they failed with; for one that cannot be called now a :class:`NotYetError`.

        Raises:
            NotNowError: The ledger cannot be used. The log says so once.
        """
        try:
            failures = self._handle(heard, parts)
        except Exception as error:
            if not self._is_away:
                self._is_away = True
                _log.failure(
                    "The ledger of what was received cannot be used, and is tried again: {error}",
                    error=error,
                )
            raise NotNowError("the ledger of what was received", str(error)) from error
        if self._is_away:
            self._is_away = False
            _log.info("The ledger of what was received can be used again")
        return failures

    def _handle(self, heard: Heard, parts: Mapping[str, Callable[[Any], Any]]) -> list[Exception]:
        ledger = self._open()
        key = _key(heard.key)
        handlings = tuple(Handling(name, self._on_crash, _FOR_EVER) for name in parts)
        event = LedgerEvent(key, f"{heard.model}.{heard.action}", b"", handlings)
        in_reactor(partial(ledger.admit, [event]), _PATIENCE)
        failures = []
        for name, call in parts.items():
            for claim in in_reactor(partial(ledger.claim, [name], 1, [key]), _PATIENCE):
                try:
                    self._run(ledger, claim, call)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                    failures.append(error)
                    in_reactor(partial(_fail, ledger, claim, error), _PATIENCE)
        if not failures and not self._is_done(ledger, key, parts):
            failures.append(NotYetError("another worker has it, or it is not due yet"))
        return failures

    def _run(self, ledger: ILedger, claim: Claim, call: Callable[[Any], Any]) -> None:
        if self._on_crash == "transaction":
            in_reactor(partial(ledger.run, claim, call))
            return
        call(None)
        for times in range(1, _TIMES + 1):
            try:
                in_reactor(partial(ledger.complete, claim), _PATIENCE)
                return
            except (LedgerBusyError, LedgerUnavailableError):
                if times == _TIMES:
                    raise
                time.sleep(1)

    def _is_done(self, ledger: ILedger, key: str, parts: Mapping[str, Any]) -> bool:
        record = in_reactor(partial(ledger.show, key), _PATIENCE)
        states = {} if record is None else {d.handler: d.state for d in record.deliveries}
        return all(states.get(name) == "done" for name in parts)


def _key(key: str) -> str:
    """Give a key that a ledger takes."""
    if len(key.encode()) <= MAX_KEY_BYTES:
        return key
    return f"sha256:{sha256(key.encode()).hexdigest()}"


def _fail(ledger: ILedger, claim: Claim, error: Exception) -> Any:
    # The message comes again in its time, and then it is due.
    return ledger.fail(claim, f"{type(error).__name__}: {error}", delay=0)
