"""What a project's settings say to Oni: the dict ``ONI``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal

from oni.errors import SettingsError
from oni.values import Phase, is_seconds

__all__ = ["DjangoSettings", "read_settings"]


@dataclass(frozen=True, slots=True)
class DjangoSettings:
    """What ``ONI`` may say, and what holds where it says nothing.

    Attributes:
        ledger: Where keys are remembered: an alias of ``DATABASES``, or the URL of another
            ledger, as :func:`oni.ledger.store_for` knows them.
        outbox: Aliases of other databases with watched models. Their events are written into
            ``oni_outbox`` there, within the transaction, and carried into the ledger later.
        deliver: ``"here"``: handlers run in the process that saved, after its commit.
            ``"worker"``: only in the processes of ``manage.py oni_sources work``.
        threads: How many synchronous handlers run at once in a process.
        phases: Names, or :class:`oni.values.Phase` objects, in order.
        namespace: What idempotency keys begin with.
        lease: After so many seconds of silence a delivery is taken from a process that seems to
            live.
        timeout: Seconds that a call of ``api`` waits for its answer; None: for ever.
        stop_timeout: Seconds that handlers have to end when the process does.
    """

    ledger: str = "default"
    outbox: tuple[str, ...] = ()
    deliver: Literal["here", "worker"] = "here"
    threads: int = 4
    phases: tuple[str | Phase, ...] = ("before", "during", "after")
    namespace: str = "oni"
    lease: float = 10.0
    timeout: float | None = None
    stop_timeout: float = 10.0

    @property
    def is_own_ledger(self) -> bool:
        """Whether the ledger is somewhere else than in the project's databases."""
        return ":" in self.ledger


def read_settings(given: object, databases: Collection[str]) -> DjangoSettings:
    """Read what ``ONI`` says.

    Args:
        given: The dict.
        databases: The aliases of ``DATABASES``.

    Raises:
        SettingsError: Something is wrong with it. All that is wrong is said at once.
    """
    if not isinstance(given, Mapping):
        raise SettingsError([f"ONI: a dict is wanted, not {given!r}"])
    problems = list(_problems(given, databases))
    if problems:
        raise SettingsError(problems)
    values = dict(given)
    for name in ("outbox", "phases"):
        if name in values:
            values[name] = tuple(values[name])
    return DjangoSettings(**values)


def _problems(given: Mapping[Any, Any], databases: Collection[str]) -> Iterator[str]:
    known = [field.name for field in fields(DjangoSettings)]
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            yield f"ONI[{name!r}]: there is no such setting; {hint}"
        elif name in _RULES:
            holds, wanted = _RULES[name]
            if not holds(value):
                yield f"ONI[{name!r}]: {wanted} is wanted, not {value!r}"
    yield from _unknown_aliases(given, databases)


def _unknown_aliases(given: Mapping[Any, Any], databases: Collection[str]) -> Iterator[str]:
    aliases = f"DATABASES has {', '.join(sorted(databases))}"
    ledger = given.get("ledger", DjangoSettings().ledger)
    outbox = given.get("outbox", ())
    if _is_text(ledger) and ":" not in ledger and ledger not in databases:
        yield f"ONI['ledger']: {ledger!r} is neither a URL nor a database; {aliases}"
    for alias in outbox if _are_strings(outbox) else ():
        if alias not in databases:
            yield f"ONI['outbox']: there is no database {alias!r}; {aliases}"
        elif alias == ledger:
            yield f"ONI['outbox']: {alias!r} has the ledger, so that it needs no outbox"


def _are_strings(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def _are_phases(value: object) -> bool:
    if not isinstance(value, list | tuple) or not value:
        return False
    names = [each.name if isinstance(each, Phase) else each for each in value]
    return all(isinstance(name, str) and name for name in names) and len({*names}) == len(names)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


_SECONDS = "a positive number of seconds"
_RULES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "ledger": (_is_text, "an alias of DATABASES, or a ledger's URL,"),
    "outbox": (_are_strings, "a list of aliases of DATABASES"),
    "deliver": (lambda value: value in ("here", "worker"), "'here' or 'worker'"),
    "threads": (_is_number, "a positive integer"),
    "phases": (_are_phases, "a list of different names or Phase objects"),
    "namespace": (_is_text, "a text"),
    "lease": (is_seconds, _SECONDS),
    "timeout": (lambda value: value is None or is_seconds(value), f"{_SECONDS}, or None,"),
    "stop_timeout": (is_seconds, _SECONDS),
}
