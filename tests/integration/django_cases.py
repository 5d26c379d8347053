"""What runs in a process of its own: a Django project that delivers, in the thread that saves.

``python -m tests.integration.django_cases URL`` prints a line of JSON for each case. The URL is a
file of SQLite's, or that of a PostgreSQL server as SQLAlchemy has it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

WITHIN = 30.0  # seconds
CASES: list[Callable[[], Any]] = []


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    """Let a function be one."""
    CASES.append(function)
    return function


def set_up(url: str) -> None:
    """Let Django know its settings, and make the tables."""
    os.environ["ONI_TEST_DATABASE"] = url
    os.environ["ONI_TEST_DELIVER"] = "here"
    from tests.django_project import set_up as set_up_project

    set_up_project()


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something to be true, and give it."""
    deadline = time.monotonic() + WITHIN
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


def state(handler: str, id: int) -> str:
    """Give the state of a delivery of a post's event."""
    from oni.sources.django.models import LedgerDelivery

    return str(LedgerDelivery.objects.get(handler=handler, key__endswith=f"post_{id}").state)


def post_event(id: int, **context: Any) -> Any:
    """Make an event about a post."""
    from oni.sources.django import api

    return api.Event(group="post", key=f"post_{id}", context=context)


# --- The cases


@case
def nothing_runs_before_it_is_needed() -> Any:
    """Setting up, registering and a rolled back save start no thread and make no reactor."""
    from django.db import transaction

    from oni.sources.django import api
    from tests.django_project.blog.models import Post

    api.register_model_event_source(Post, lambda post: [post_event(post.pk)] if post.stars else [])
    try:
        with transaction.atomic():
            Post.objects.create(title="never", stars=1)
            raise RuntimeError
    except RuntimeError:
        pass
    return ["twisted.internet.reactor" in sys.modules, threading.active_count()]


@case
def delivered_after_the_commit() -> Any:
    """Handlers run after the commit, in a thread of their own, and see the row."""
    from django.db import connection, connections, transaction

    from oni.sources.django import api
    from tests.django_project.blog.models import Post

    seen: dict[str, Any] = {}
    used: list[Any] = []

    def handle(event: api.Event) -> None:
        post = event["context"]["post"]
        seen.update(title=post.title, thread=threading.current_thread().name)
        seen["is_commited"] = not connection.in_atomic_block
        used.append(connections["default"])

    api.register_group_handler(handle, "^committed$", name="committed")
    api.register_model_event_source(
        Post,
        lambda post: [api.event("committed", post.pk, {"post": post})] * (post.title == "now"),
    )
    with transaction.atomic():
        Post.objects.create(title="now")
        time.sleep(0.2)
        early = bool(seen)
    until(lambda: seen, "it is delivered")
    until(lambda: used[0].connection is None, "its connection is closed")
    return [early, seen["title"], seen["thread"].startswith("oni-sources-"), seen["is_commited"]]


@case
def kinds_of_handlers() -> Any:
    """Functions run in a pool, coroutines and Deferreds in the reactor's thread."""
    from twisted.internet import reactor, task
    from twisted.python.threadable import isInIOThread

    from oni.sources.django import api

    ran: dict[str, Any] = {}

    def blocking(event: api.Event) -> None:
        ran["blocking"] = isInIOThread()

    async def coroutine(event: api.Event) -> None:
        await task.deferLater(reactor, 0.01)
        ran["coroutine"] = isInIOThread()

    def deferred(event: api.Event) -> Any:
        ran["deferred"] = isInIOThread()
        return task.deferLater(reactor, 0.01, ran.setdefault, "fired", True)

    def transact(event: api.Event, connection: Any) -> None:
        ran["transact"] = [isInIOThread(), connection.in_atomic_block]

    api.register_group_handler(blocking, "^kinds$", name="blocking")
    api.register_group_handler(coroutine, "^kinds$", name="coroutine")
    api.register_group_handler(deferred, "^kinds$", name="deferred", threaded=False)
    api.register_group_handler(transact, "^kinds$", name="transact", on_crash="transaction")
    (record,) = api.process_events([api.event("kinds", 1)])
    return [ran, sorted(each.state for each in record.deliveries)]


@case
def one_crossing_for_a_batch() -> Any:
    """A call enters the reactor's thread once, however many events it has."""
    from unittest import mock

    from twisted.internet import reactor

    from oni.blocking._call import Call
    from oni.sources.django import api

    api.event_sources()
    assert reactor is not None
    with mock.patch.object(Call, "begin", autospec=True, side_effect=Call.begin) as begin:
        new = api.only_new_events(api.event("kinds", id) for id in range(100, 150))
        once = begin.call_count
        again = api.only_new_events([api.event("kinds", id) for id in range(100, 150)])
    return [len(new), once, len(again)]


@case
def refused_on_the_reactors_thread() -> Any:
    """A call that would wait for its own thread is refused at once, in the simplest case, too."""
    from oni.sources.django import api

    refused: list[str] = []

    async def call_it(event: api.Event) -> None:
        for call in (api.process_events, api.only_new_events):
            try:
                call([])
            except Exception as error:  # noqa: BLE001 - whichever it is
                refused.append(type(error).__name__)

    api.register_group_handler(call_it, "^refuse$", name="refuse")
    api.process_events([api.event("refuse", 1)])
    return refused


@case
def within_a_transaction() -> Any:
    """In a transaction nothing is waited for: it is admitted there, and delivered afterwards."""
    from django.db import transaction

    from oni.sources.django import api

    ran: list[str] = []
    api.register_group_handler(lambda event: ran.append(event.key), "^within$", name="within")
    with transaction.atomic():
        records = api.process_events(api.only_new_events([api.Event(group="within", key="w1")]))
        before = list(ran)
    until(lambda: ran, "it is delivered")
    try:
        with transaction.atomic():
            api.process_events([api.Event(group="within", key="w2")])
            raise RuntimeError
    except RuntimeError:
        pass
    new = api.only_new_events([api.Event(group="within", key=key) for key in ("w1", "w2")])
    return [list(records), before, [event.key for event in new]]


@case
def a_row_that_is_gone() -> Any:
    """A delivery whose row was deleted meanwhile ends with an error that names it."""
    from django.db import transaction

    from oni.sources.django import api
    from oni.sources.django.models import LedgerDelivery
    from tests.django_project.blog.models import Post

    api.register_group_handler(lambda event: None, "^gone$", name="gone")
    with transaction.atomic():
        post = Post.objects.create(title="soon gone")
        api.process_events([api.event("gone", 1, {"post": post})])
        post.delete()
    until(lambda: LedgerDelivery.objects.get(handler="gone").state == "dead", "it has ended")
    found = LedgerDelivery.objects.get(handler="gone")
    return [found.state, "blog.Post" in found.last_error, "gone" in found.last_error]


@case
def an_effect_with_its_completion() -> Any:
    """What a handler writes with the ORM is kept with the completion mark, or not at all."""
    from oni.sources.django import api
    from tests.django_project.blog.models import Tag

    attempts: list[int] = []

    def write(event: api.Event, connection: Any) -> None:
        attempts.append(event.attempt)
        Tag.objects.create(name="written")
        if len(attempts) == 1:
            raise RuntimeError("after it was written")

    api.register_group_handler(
        write, "^write$", name="write", on_crash="transaction", max_attempts=1
    )
    api.process_events([api.event("write", 1)])
    after_a_failure = Tag.objects.filter(name="written").count()
    api.process_events([api.event("write", 2)])
    return [after_a_failure, Tag.objects.filter(name="written").count(), len(attempts)]


@case
def another_database() -> Any:
    """Events of another database come by its outbox."""
    from oni.sources.django import api
    from oni.sources.django.models import OutboxEvent
    from tests.django_project.blog.models import Plain

    ran: list[str] = []
    api.register_group_handler(
        lambda event: ran.append(event["context"]["plain"].text), "^other$", name="other"
    )
    api.register_model_event_source(
        Plain, lambda plain: [api.event("other", plain.pk, {"plain": plain})]
    )
    Plain.objects.using("other").create(text="elsewhere")
    until(lambda: ran, "it is relayed")
    until(lambda: not OutboxEvent.objects.using("other").exists(), "it is removed")
    return ran


@case
def a_wake_never_fails() -> Any:
    """Whatever a wake raises, the saving program does not hear of it, nor do other callbacks."""
    from unittest import mock

    from django.db import transaction

    from oni.sources.django import _hand_over
    from tests.django_project.blog.models import Plain

    called: list[str] = []
    with (
        mock.patch.object(_hand_over.home, "wake", side_effect=KeyboardInterrupt),
        transaction.atomic(),
    ):
        Plain.objects.create(text="here")
        transaction.on_commit(lambda: called.append("after"))
    return called


@case
def a_fork_after_the_start() -> Any:
    """A process that is forked too late can save, and says why it does not deliver."""
    from oni.sources.django._home import home

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            home.start()
            text = "started"
        except BaseException as error:  # noqa: BLE001 - whichever it is
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    said = os.read(read, 10_000).decode()
    os.close(read)
    return ["ForkedProcessError" in said, "fork" in said]


def main() -> None:
    """Run all of them, one after another."""
    set_up(sys.argv[1])
    for function in CASES:
        print(json.dumps([function.__name__, function()]), flush=True)


if __name__ == "__main__":
    main()
