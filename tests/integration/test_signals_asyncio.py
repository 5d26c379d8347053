"""Signals on Twisted's reactor over asyncio, in a process of their own."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio
from twisted.internet import asyncioreactor

asyncioreactor.install(asyncio.new_event_loop())

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from oni.errors import EventAbortedError
from oni.signals import Signal, receiver
from oni.values import Phase

post_init = Signal()
App = object()
said = []

@receiver(post_init, sender=App)
async def on_init(sender, **kwargs):
    said.append("heard")
    return "done"

@receiver(post_init)
def on_init_later(sender, **kwargs):
    later = Deferred()
    reactor.callLater(0.01, later.callback, "later")
    return later

@receiver(post_init)
def fails(sender, **kwargs):
    raise ValueError("no")

async def main():
    task = asyncio.ensure_future(post_init.send(sender=App))
    said.append("returned")
    result = await task
    print(said, result.values, len(result.failures))
    result = await post_init.send_now(App)
    print(result.values)
    waits = Deferred()
    hangs = Signal()
    def hang(sender):
        return waits
    hangs.connect(hang)
    task = asyncio.ensure_future(hangs.send_now(None))
    await asyncio.sleep(0.01)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        print("cancelled", waits.called)
    nests = Signal()
    @receiver(nests)
    async def nest(sender):
        inner = await post_init.send_now(App)
        await asyncio.sleep(0.001)
        again = await asyncio.ensure_future(post_init.send(App))
        return inner.values, again.values
    print((await nests.send_now(None)).values)
    fails = Signal(phases=[Phase("check", on_error="abort")])
    @receiver(fails)
    async def refuse(sender):
        await asyncio.sleep(0)
        raise ValueError("no")
    @receiver(nests)
    async def nest_failing(sender):
        try:
            await fails.send_now(None)
        except EventAbortedError:
            return "refused"
    print((await nests.send_now(None)).values[1])
    reactor.stop()

reactor.callLater(0, lambda: asyncio.ensure_future(main()))
reactor.run()
"""


def test_tasks_of_asyncio() -> None:
    """A task sends, goes on, and awaits what came of it; cancelling it cancels the receivers.

    Receivers that send what they have to wait for do so in the task's own turn.
    """
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [
        "['returned', 'heard'] ('done', 'later') 1",
        "('done', 'later')",
        "cancelled True",
        "((('done', 'later'), ('done', 'later')),)",
        "refused",
    ], (run.stdout, run.stderr)
