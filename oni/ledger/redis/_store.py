"""A ledger on a Redis server, through redis-py.

redis-py's blocking client, and not txredisapi: a store blocks, in threads of the ledger's own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha1
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry
from zope.interface import implementer

from oni.errors import (
    LedgerFullError,
    LedgerTransactionError,
    LedgerUnavailableError,
    LedgerUrlError,
    UnsafeLedgerError,
)
from oni.interfaces import ILedgerStore
from oni.ledger._drivers import forked
from oni.ledger._redis_checks import look_at
from oni.ledger._redis_effects import RedisEffects
from oni.ledger._redis_owners import ForbiddenError, Owners
from oni.ledger._redis_scripts import COMMANDS as _NEEDED
from oni.ledger._redis_scripts import SCRIPTS
from oni.ledger._redis_transaction import LostGuessError, RedisTransaction, Truths, is_full

__all__ = ["RedisStore"]

_LABEL = "effects once for Redis effects; else retry/park"
_BY_LEASE = "the lease finds the dead"
_FORGETFUL = "dedup=best-effort"

_BEST_EFFORT = "best_effort"

_CONNECT_WITHIN = 5.0  # seconds
_ANSWER_WITHIN = 10.0

_NAMESPACE = re.compile(r"[^{}\s\x00-\x1f]{1,64}")

_NAMES = re.compile(rb" name=(oni-ledger-\S+)")
_WITH_DIGESTS = {
    name: (text, sha1(text.encode(), usedforsecurity=False).hexdigest())
    for name, text in SCRIPTS.items()
}

# redis-py takes the first word off the answers that it knows.
_ELSEWHERE = (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
    TryAgainError,
)
# What is in an answer that may be another one soon; within a script it does not stand in front.
_PASSING = ("BUSY ", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "READONLY")
_NOT_KNOWN = ("unknown command", "unknown subcommand", "err unknown")


@implementer(ILedgerStore)
class RedisStore:
    """Keeps a ledger in keys that begin with ``oni:{namespace}:``. None of them ever expires.

    What its transactions give as ``connection`` is a :class:`RedisEffects`, which takes commands;
    :meth:`join` takes it, too.

    Args:
        url: ``redis://user:password@host:port/database``, or ``rediss://`` for TLS.
        namespace: What idempotency keys begin with, and what parts several ledgers of one server.
        best_effort: Whether a server that may forget keys is warned of, and not refused.
        clock: Gives the time, seconds since 1970; by default the server's.
        options: For :meth:`redis.Redis.from_url`.

    Raises:
        LedgerUrlError: It is not the address of a Redis server, or no namespace can be called so.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "oni",
        *,
        best_effort: bool = False,
        clock: Callable[[], float] | None = None,
        **options: Any,
    ) -> None:
        self.namespace = namespace
        self.label = _LABEL
        self._best_effort = best_effort
        self._server = _Server(_maker(url, options), _prefix(namespace), clock)
        self._owners = Owners(self._server)
        self._process = os.getpid()

    @classmethod
    def from_url(cls, url: str, namespace: str = "oni") -> RedisStore:
        """Make one whose settings are in its address alone.

        Args:
            url: As above. ``?best_effort=true`` is taken out of it; what else stands there goes to
                redis-py.
            namespace: As above.

        Raises:
            LedgerUrlError: As above.
        """
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise LedgerUrlError("redis://...", str(error)) from error
        options = parse_qsl(parts.query, keep_blank_values=True)
        wish = dict(options).get(_BEST_EFFORT, "false").lower()
        if wish not in ("true", "false"):
            raise LedgerUrlError(f"{parts.scheme}://...", f"{_BEST_EFFORT} is true or false")
        others = urlencode([pair for pair in options if pair[0] != _BEST_EFFORT])
        return cls(urlunsplit(parts._replace(query=others)), namespace, best_effort=wish == "true")

    def open(self) -> Sequence[str]:
        """See :class:`oni.interfaces.ILedgerStore`. Nothing needs to be made."""
        self._check_process()
        found = look_at(self._server.info(), self._server.config())
        found.impossible += self._server.problems()
        if found.impossible or (found.forgetful and not self._best_effort):
            raise UnsafeLedgerError([*found.impossible, *found.forgetful])
        self._owners.probe()
        warnings = [*found.forgetful, *found.warnings]
        if not self._owners.can_be_seen:
            warnings.append(
                "the server does not let this user give its connections names and see those of "
                "others, so that what a dead process ran goes on when its lease is over, and not "
                "within a second. Let the user call both: +client|setname +client|list"
            )
        self.label = "; ".join(
            [_LABEL]
            + [_BY_LEASE] * (not self._owners.can_be_seen)
            + [_FORGETFUL] * bool(found.forgetful)
        )
        return warnings

    def close(self) -> None:
        """See :class:`oni.interfaces.ILedgerStore`."""
        self._owners.close()
        self._server.close()

    @contextmanager
    def transaction(self, read: bool = False) -> Iterator[RedisTransaction]:
        """See :class:`oni.interfaces.ILedgerStore`. Nobody waits for it, whatever it does."""
        with self._begin(None) as transaction:
            yield transaction

    @contextmanager
    def repeatable(
        self, told: dict[str, Sequence[bytes]] | None = None
    ) -> Iterator[RedisTransaction]:
        """Give a transaction for what is done again when it has lost a race.

        It asks less than another one, and is told in the end where it should have asked.

        Args:
            told: What is remembered of that from one try to the next, and no longer.
        """
        truths = {} if told is None else told
        try:
            with self._begin(truths) as transaction:
                yield transaction
        except LostGuessError as error:
            truths.update(error.truths)
            raise

    @contextmanager
    def _begin(self, truths: Truths | None) -> Iterator[RedisTransaction]:
        self._check_process()
        transaction = RedisTransaction(self._server, self.namespace, truths)
        transaction.connection.transaction = transaction
        try:
            try:
                yield transaction
            except LedgerUnavailableError:
                raise  # nor could anything be given back
            except BaseException:
                transaction.give_back()
                raise
            transaction.commit()
        finally:
            transaction.connection.end()

    def join(self, connection: Any) -> RedisTransaction:
        """See :class:`oni.interfaces.ILedgerStore`."""
        if not isinstance(connection, RedisEffects) or connection.transaction is None:
            raise LedgerTransactionError(
                f"{connection!r} is no open transaction of a ledger on Redis: Redis has none that "
                f"another could take part in. Write your own commands through the ledger's"
            )
        joined: RedisTransaction = connection.transaction
        return joined

    def enter(self, owner: str) -> None:
        """See :class:`oni.interfaces.ILedgerStore`."""
        self._check_process()
        self._owners.enter(owner)

    def leave(self, owner: str) -> None:
        """See :class:`oni.interfaces.ILedgerStore`."""
        self._owners.leave(owner)

    def is_alive(self, owner: str) -> bool:
        """See :class:`oni.interfaces.ILedgerStore`."""
        return self._owners.is_alive(owner)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise forked()


class _Server:
    """The server, and what it says in Oni's words.

    Args:
        make: Makes a client.
        prefix: What all keys begin with.
        clock: Gives the time; None: the server's.
    """

    def __init__(
        self, make: Callable[..., redis.Redis], prefix: str, clock: Callable[[], float] | None
    ) -> None:
        self.prefix = prefix
        self._make = make
        self._client = make()
        self._clock = clock

    def given_time(self) -> str:
        """Give the time that scripts shall take it to be."""
        return "" if self._clock is None else repr(self._clock())

    def run(self, script: str, *arguments: bytes | str | int) -> Any:
        """Run a script. One that the server has not got yet is sent to it."""
        text, digest = _WITH_DIGESTS[script]
        words = (1, f"{self.prefix}e:", self.prefix, *arguments)
        with _translated():
            try:
                return self._client.execute_command("EVALSHA", digest, *words)
            except NoScriptError:
                return self._client.execute_command("EVAL", text, *words)

    def problems(self) -> Sequence[str]:
        """Say why no ledger can be there, as far as a question that changes nothing shows it."""
        try:
            forbidden = self.run("forbidden", *_NEEDED)
        except ResponseError as error:
            return [f"the server does not let this user run the ledger's scripts: {error}"]
        if not forbidden:
            return []
        names = [name.decode() for name in forbidden]
        return [
            f"the server does not let this user call {', '.join(names)} with keys that begin with "
            f"{self.prefix}, and would leave things half done. Let the user call them: "
            f"{' '.join(f'+{name.lower()}' for name in names)} ~{self.prefix}*"
        ]

    def info(self) -> Mapping[str, str] | None:
        """Give what INFO says; None where it is forbidden."""
        with suppress(ForbiddenError):
            return {name: str(value) for name, value in self._ask("INFO").items()}
        return None

    def config(self) -> Mapping[str, str] | None:
        """Give what CONFIG GET says of files and memory; None where it is forbidden."""
        words: list[bytes] = []
        with suppress(ForbiddenError):
            for pattern in ("append*", "maxmemory*"):
                words += self._ask("CONFIG", "GET", pattern)
            texts = [word.decode() for word in words]
            return dict(zip(texts[::2], texts[1::2], strict=True))
        return None

    def dedicate(self) -> _Session:
        """See :class:`oni.ledger._redis_owners.Sessions`."""
        with _translated():
            return _Session(self._make(single_connection_client=True))

    def names(self) -> Collection[str]:
        """See :class:`oni.ledger._redis_owners.Sessions`."""
        # In two words redis-py does not read it: of many connections only the names matter.
        listed: bytes = self._ask("CLIENT", "LIST")
        return {name.decode(errors="replace") for name in _NAMES.findall(listed)}

    def keep_for(self, key: str, seconds: int) -> None:
        """See :class:`oni.ledger._redis_owners.Sessions`."""
        self._ask("SET", key, "1", "EX", seconds)

    def is_kept(self, key: str) -> bool:
        """See :class:`oni.ledger._redis_owners.Sessions`."""
        return bool(self._ask("EXISTS", key))

    def _ask(self, *words: str | int) -> Any:
        with _translated(), _permitted():
            return self._client.execute_command(*words)

    def close(self) -> None:
        """End every connection but the dedicated ones."""
        self._client.close()


class _Session:
    """A connection of its own."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def name(self, name: str) -> None:
        """See :class:`oni.ledger._redis_owners.Session`."""
        with _translated(), _permitted():
            self._client.execute_command("CLIENT", "SETNAME", name)

    def close(self) -> None:
        """See :class:`oni.ledger._redis_owners.Session`."""
        with _translated():
            self._client.close()


def _maker(url: str, options: Mapping[str, Any]) -> Callable[..., redis.Redis]:
    """Give what makes clients for a server."""
    scheme = url.partition(":")[0]
    if scheme not in ("redis", "rediss"):
        raise LedgerUrlError(f"{scheme}:...", "it begins with redis:// or rediss://")
    ours = {
        "protocol": 2,
        "decode_responses": False,
        # What is not answered may have happened: whoever asked decides whether to ask again.
        "retry": Retry(NoBackoff(), 0),
    }
    # In an address they would win.
    taken = sorted(ours.keys() & {*options, *dict(parse_qsl(urlsplit(url).query))})
    if taken:
        raise LedgerUrlError(f"{scheme}://...", f"{', '.join(taken)} cannot be chosen")
    settings: dict[str, Any] = {
        "socket_connect_timeout": _CONNECT_WITHIN,
        "socket_timeout": _ANSWER_WITHIN,
        "socket_keepalive": True,
        **options,
        **ours,
    }

    def make(**more: Any) -> redis.Redis:
        return redis.Redis.from_url(url, **settings, **more)

    try:
        make().connection_pool.make_connection()  # which connects nowhere, and knows all options
    except (ValueError, TypeError) as error:
        raise LedgerUrlError(f"{scheme}://...", str(error)) from error
    return make


def _prefix(namespace: str) -> str:
    """Give what all keys of a namespace begin with. In braces it names their slot."""
    if not _NAMESPACE.fullmatch(namespace):
        raise LedgerUrlError(
            namespace, "a namespace has 1 to 64 characters, none of them a brace or a space"
        )
    return f"oni:{{{namespace}}}:"


@contextmanager
def _permitted() -> Iterator[None]:
    """Say what is forbidden, or not known to a server that knows less."""
    try:
        yield
    except NoPermissionError as error:
        raise ForbiddenError(str(error)) from error
    except ResponseError as error:
        if not str(error).lower().startswith(_NOT_KNOWN):
            raise
        raise ForbiddenError(str(error)) from error


@contextmanager
def _translated() -> Iterator[None]:
    """Say in Oni's errors what is not a mistake in the program."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise LedgerUnavailableError(f"the server does not answer: {error}") from error
    except _ELSEWHERE as error:
        raise LedgerUnavailableError(f"the server sends us elsewhere: {error}") from error
    except ResponseError as error:
        told = _meaning(str(error))
        if told is None:
            raise
        raise told from error


def _meaning(text: str) -> Exception | None:
    """Say in Oni's errors what a server's answer means; None: a mistake in the program."""
    if is_full(text) or ("MISCONF" in text and "No space" in text):
        return LedgerFullError(f"the server has no room: {text}")
    if any(word in text for word in _PASSING):
        return LedgerUnavailableError(f"the server does not accept anything now: {text}")
    return None
