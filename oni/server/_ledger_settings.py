"""``[ledger]``: which keys there were, and who has dealt with them."""

from __future__ import annotations

import math
import os
import re
from typing import Annotated

import msgspec
from msgspec import Meta

from oni.errors import LedgerUrlError, MissingExtraError
from oni.ledger import store_for

__all__ = ["LedgerSettings", "file_in", "ledger_problems"]

_RELATIVE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/)(?=[^?])")


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[ledger]``: where it is remembered which handlers are done with which events."""

    url: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="Which ledger: 'sqlite:///ledger.db' is a file beside the settings file, "
            "'postgresql://user@host/database' and 'redis://host/0' are on servers, 'memory:' "
            "forgets everything when the process ends. Without it there is none."
        ),
    ] = None
    namespace: Annotated[
        str,
        Meta(
            min_length=1,
            description="What idempotency keys begin with. Programs that share a mail server or "
            "the like, and no ledger, have one each. On one Redis it is also what parts their "
            "ledgers.",
        ),
    ] = "oni"
    lease: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds of silence after which a delivery is taken from a process that "
            "seems to live. All processes of a ledger have the same.",
        ),
    ] = 10.0
    workers: Annotated[
        int,
        Meta(
            ge=1,
            description="Threads that work with the ledger's database at once, for handlers that "
            "are given its transaction and for questions.",
        ),
    ] = 4
    max_waiting: Annotated[
        int,
        Meta(
            ge=1,
            description="Calls that wait for the database, at most. More are refused at once.",
        ),
    ] = 10_000
    look_every: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds between two looks whether the ledger answers and how much it "
            "has to do, for /healthz and /metrics. Where a look takes long there is more time "
            "between them.",
        ),
    ] = 15.0
    prune_after: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Seconds after which a key that every handler has completed is forgotten. "
            "It must be longer than any source may take to bring the same event again: a "
            "forgotten key is a new one. Without it nothing is forgotten."
        ),
    ] = None

    def url_in(self, folder: str | None) -> str | None:
        """Give the URL, where a file's name that is not whole starts in this folder."""
        return None if self.url is None else file_in(self.url, folder)


def file_in(url: str, folder: str | None) -> str:
    """Give a database's URL, where a file's name that is not whole starts in this folder."""
    if folder is None:
        return url
    return _RELATIVE.sub(lambda found: f"{found[1]}{os.path.join(folder, '')}", url)


def ledger_problems(ledger: LedgerSettings) -> list[str]:
    """Say what is wrong with these settings that their types do not show."""
    problems = [
        f"ledger.{name}: expected a finite number, got {value}"
        for name in ("lease", "look_every", "prune_after")
        if (value := getattr(ledger, name)) is not None and not math.isfinite(value)
    ]
    if "/" in ledger.namespace:
        problems.append("ledger.namespace: expected a name without '/', which parts the keys")
    if ledger.url is not None:
        try:
            store_for(ledger.url, ledger.namespace)
        except (LedgerUrlError, MissingExtraError) as error:
            problems.append(f"ledger.url: {error}")
    return problems
