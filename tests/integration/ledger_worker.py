"""A process with a ledger, for tests that kill or stop it.

``python -m tests.integration.ledger_worker URL LEASE hold``: claims one delivery and says so; at
the next line of its input it does the work, says what came of it, and ends.

``... work``: runs what is due, again and again, and says so each time.

``... wait``: as ``work``, but waits for a line of its input before it does the work.

``... die``: as ``work``, and the work kills the process.

What it says is JSON, a line each. The work is a row in the table, or the list, ``effect``. Where
the database is away it says so, and tries again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

from oni.errors import LedgerUnavailableError, StaleClaimError
from oni.ledger import Ledger, store_for
from oni.ledger.redis import RedisEffects
from oni.values import Claim

HANDLERS = ("mail",)
PAUSE = 0.02  # seconds


def say(**words: Any) -> None:
    """Write a line."""
    print(json.dumps(words), flush=True)


def effect_of(claim: Claim, mode: str) -> Callable[[Any], None]:
    """Give the work."""

    def work(connection: sa.Connection | RedisEffects) -> None:
        if mode == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(connection, RedisEffects):
            connection.queue("RPUSH", "effect", claim.key)
            return
        connection.execute(
            sa.text("INSERT INTO effect (name) VALUES (:name)"), {"name": claim.key}
        )

    return work


async def run(ledger: Ledger, claim: Claim, mode: str) -> None:
    """Do the work, and say what came of it."""
    try:
        await ledger.run(claim, effect_of(claim, mode))
    except StaleClaimError:
        say(stale=claim.key)
    except LedgerUnavailableError:
        say(away=claim.key)
    else:
        say(done=claim.key, attempt=claim.attempt)


async def live(reactor: Any, url: str, lease: str, mode: str) -> None:
    """Do what is wanted."""
    ledger = Ledger(store_for(url), lease=float(lease), reactor=reactor)
    await ledger.start()
    say(started=True)
    while True:
        try:
            claims = await ledger.claim(HANDLERS, 1)
        except LedgerUnavailableError:
            say(away="")
            await deferLater(reactor, PAUSE)
            continue
        for claim in claims:
            say(claimed=claim.key)
            if mode in ("hold", "wait"):
                await deferToThread(sys.stdin.readline)
            await run(ledger, claim, mode)
            if mode == "hold":
                await ledger.stop()
                return
        if not claims:
            await deferLater(reactor, PAUSE)


if __name__ == "__main__":
    react(lambda reactor, *words: Deferred.fromCoroutine(live(reactor, *words)), sys.argv[1:])
