"""Listeners that settings switch on."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.component import getGlobalSiteManager

from oni.dispatcher import EventDispatcher
from oni.errors import (
    GroupHandlerNameError,
    LargeContextError,
    MissingExtraError,
    NotNowError,
    QueueFullError,
    SettingsError,
    UnkeptContextError,
    WatchersFailedError,
    WrongThreadError,
)
from oni.interfaces import IChannels, IEventDispatcher
from oni.ledger import MemoryConnection
from oni.listeners import (
    AfterResourceChanged,
    AfterResourceRead,
    ListenerBase,
    Listeners,
    ResourceEvents,
    _activate,
    activate,
    flat,
    new_dispatcher,
    own_settings,
)
from oni.listeners.channel import Listener as ChannelListener
from oni.listeners.dispatcher import Listener as DispatcherListener
from oni.values import Event
from tests.listeners.kept_case import KeptCase

HERE = __name__


class Recorder(ListenerBase):
    """Keeps what it hears."""

    def __init__(self, own: dict[str, Any]) -> None:
        """Hear nothing yet."""
        self.own = own
        self.heard: list[Any] = []
        self.fails: BaseException | None = None
        self.closed = 0

    def __call__(self, event: Any) -> Any:
        """Keep it."""
        self.heard.append(event)
        if self.fails is not None:
            raise self.fails

    def close(self) -> None:
        """Count it."""
        self.closed += 1
        if self.closed == 1 and "stubborn" in self.own:
            raise ValueError("no")


def load_from_config(config: Any, prefix: str) -> Recorder:
    """Make one."""
    own = own_settings(config, prefix)
    if "wrong" in own:
        raise SettingsError([f"{prefix}wrong: no"])
    if "broken" in own:
        raise ZeroDivisionError("broken")
    return Recorder(own)


def settings(**more: Any) -> dict[str, Any]:
    """Switch one listener on."""
    found = {"event_listeners": "one", "event_listeners.one.use": HERE}
    return {**found, **{f"event_listeners.one.{name}": value for name, value in more.items()}}


async def call_in_coroutine(call: Any) -> Any:
    """Call a listener, and wait for it."""
    result = call(None)
    return await result if isinstance(result, Awaitable) else result


class SettingsTests(SynchronousTestCase):
    """What settings say."""

    def setUp(self) -> None:
        """Make a dispatcher."""
        self.dispatcher = new_dispatcher()

    def commit(self, resource: str = "article", action: Any = "create") -> None:
        """Let a transaction end."""
        events = ResourceEvents(self.dispatcher)
        events.record(resource, action, id=1, uri="/", new={"id": 1})
        events.before_commit()
        events.committed()

    def test_own_settings(self) -> None:
        """A listener is given its own, from a mapping or a configurator."""
        found = activate(settings(key="a", actions="create"), self.dispatcher)
        self.assertEqual({"key": "a"}, found.by_name["one"].own)
        config = SimpleNamespace(get_settings=lambda: {"x.y": 1, "x.use": 2})
        self.assertEqual({"y": 1}, own_settings(config, "x."))

    def test_as_a_configurator_has_them(self) -> None:
        """A module that was written for Pyramid's configurator finds its settings, too."""
        module = sys.modules["listeners_that_were_there"] = ModuleType("before")
        self.addCleanup(sys.modules.pop, "listeners_that_were_there")

        class Listener(ListenerBase):
            def __init__(self, key: str, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.key = key

            def __call__(self, event: Any) -> None:
                """Hear of nothing."""

        def load_from_config(config: Any, prefix: str) -> Listener:
            return Listener(config.get_settings()[prefix + "key"], config, prefix=prefix)

        module.load_from_config = load_from_config  # type: ignore[attr-defined]
        said = {
            "event_listeners": "one",
            "event_listeners.one.use": "listeners_that_were_there",
            "event_listeners.one.key": "a",
        }
        self.assertEqual("a", activate(said, self.dispatcher).by_name["one"].key)

    def test_toml(self) -> None:
        """Tables mean the same."""
        tables = {"one": {"use": HERE, "actions": ["delete"], "key": "a"}}
        listener = activate(flat(tables), self.dispatcher).by_name["one"]
        self.assertEqual({"key": "a"}, listener.own)
        self.commit(action="create")
        self.assertEqual([], listener.heard)
        self.commit(action="delete")
        self.assertEqual(1, len(listener.heard))

    def test_filters(self) -> None:
        """Actions and resources; without them every change of everything, and no reading."""
        every = activate(settings(), self.dispatcher).by_name["one"]
        some = activate(
            settings(actions="create\nread", resources="article, tag"), self.dispatcher
        ).by_name["one"]
        for action in ("create", "update", "delete", "read"):
            self.commit("article", action)
            self.commit("bucket", action)
        self.assertEqual(6, len(every.heard))
        self.assertEqual([AfterResourceChanged, AfterResourceRead], list(map(type, some.heard)))
        self.assertEqual({"article"}, {event.resource_name for event in some.heard})

    def test_every_mistake_at_once(self) -> None:
        """All that is wrong is named, and nothing is switched on."""
        wrong = {
            "event_listeners": ["one", "two", "three", "four", "five", "six"],
            "event_listeners.one.use": HERE,
            "event_listeners.one.wrong": "",
            "event_listeners.two.use": "nowhere.at.all",
            "event_listeners.three.use": "json",
            "event_listeners.four.use": HERE,
            "event_listeners.four.broken": "",
            "event_listeners.five.use": HERE,
            "event_listeners.six.use": "tests.listeners.plain",
        }
        error = self.assertRaises(SettingsError, activate, wrong, self.dispatcher)
        said = "\n".join(error.problems)
        for part in (
            "event_listeners.one.wrong: no",
            "event_listeners.two: No module named 'nowhere'",
            "event_listeners.three: json has no function load_from_config",
            "event_listeners.four: broken",
            "event_listeners.six: tests.listeners.plain.load_from_config gave <built-in",
        ):
            self.assertIn(part, said)
        self.assertEqual([], list(self.dispatcher.handlers()))

    def test_made_for_nothing(self) -> None:
        """Listeners that were made before something was found to be wrong are closed again."""
        made: list[Recorder] = []

        class Kept(Recorder):
            def __init__(self, own: dict[str, Any]) -> None:
                super().__init__(own)
                made.append(self)

        self.patch(sys.modules[HERE], "Recorder", Kept)
        both = {**settings(), "event_listeners": "one two", "event_listeners.two.use": "json"}
        error = self.assertRaises(SettingsError, activate, both, self.dispatcher)
        self.assertEqual(1, len(error.problems))
        lacks = {**both, "event_listeners.two.use": "oni.listeners.redis"}
        self.patch(_activate, "import_module", self.import_without_redis)
        self.assertRaises(MissingExtraError, activate, lacks, self.dispatcher)
        self.assertEqual([1, 1], [each.closed for each in made])

    def import_without_redis(self, name: str) -> Any:
        """Import a module where the package redis is not installed."""
        if name == "oni.listeners.redis":
            raise ModuleNotFoundError("No module named 'redis'", name="redis")
        return sys.modules[name]

    def test_no_such_listener(self) -> None:
        """A slip of the pen is no package that is missing."""
        wrong = {**settings(), "event_listeners.one.use": "oni.listeners.rediss"}
        error = self.assertRaises(SettingsError, activate, wrong, self.dispatcher)
        self.assertIn("No module named 'oni.listeners.rediss'", error.problems[0])

    def test_values_that_are_no_words(self) -> None:
        """Names, actions and resources are words or lists of them, whatever a file can hold."""
        for wrong in (5, None, True, {"one": 1}, ["one", 2]):
            for key in ("event_listeners", "event_listeners.one.resources"):
                error = self.assertRaises(
                    SettingsError, activate, {**settings(), key: wrong}, self.dispatcher
                )
                self.assertIn(f"{key}: it is words", error.problems[0])

    def test_no_event_sources(self) -> None:
        """What are no event sources is told before any listener is made."""
        made: list[Any] = []
        self.patch(_activate, "_load", lambda *said: made.append(said))
        self.assertRaises(TypeError, activate, settings(), self.dispatcher, object())
        self.assertEqual([], made)

    def test_mistakes_in_what_all_have(self) -> None:
        """These, too."""
        wrong = {
            "event_listeners": "one one",
            "event_listeners.one.actions": "create destroy",
            "event_listeners.tow.use": HERE,
        }
        error = self.assertRaises(SettingsError, activate, wrong, self.dispatcher)
        said = "\n".join(error.problems)
        self.assertIn("event_listeners.one.use: it must name", said)
        self.assertIn("not destroy", said)
        self.assertIn("event_listeners.tow.use: event_listeners does not name", said)
        error = self.assertRaises(
            SettingsError, activate, settings(actions=" , "), self.dispatcher
        )
        self.assertIn("create, update, delete, read, not none", error.problems[0])
        self.assertIn("named twice", said)

    def test_counted(self) -> None:
        """Calls, failures and time of each; what fails is told once."""
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        listeners = activate(settings(), self.dispatcher)
        listener = listeners.by_name["one"]
        listener.fails = ValueError("no")
        self.commit()
        self.commit()
        listener.fails = None
        self.commit()
        self.assertEqual((3, 2), (listeners.calls["one"], listeners.failures["one"]))
        self.assertGreater(listeners.seconds["one"], 0)
        formats = [event["log_format"] or "" for event in said]
        [text] = [text for text in formats if "fails; what" in text]
        self.assertIn("is lost", text)
        self.assertEqual(1, len([text for text in formats if "succeeds again" in text]))
        self.flushLoggedErrors(ValueError)

    def test_named_when_it_fails(self) -> None:
        """The log names the listener that has failed, in whichever thread it was called."""
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)

        class Pool:
            def __init__(self, threads: int) -> None:
                pass

            def call(self, function: Any, event: Any) -> Any:
                return function(event)

        self.patch(_activate, "ThreadLimit", Pool)
        self.patch(_activate, "isInIOThread", lambda: True)
        for kind in ("of no kind", "in_reactor", "blocks"):
            self.patch(Recorder, "in_reactor", kind == "in_reactor")
            self.patch(Recorder, "blocks", kind == "blocks")
            said.clear()
            listeners = activate(settings(), self.dispatcher)
            listeners.by_name["one"].fails = ValueError("no")
            self.commit()
            listeners.close()
            self.assertEqual(1, len(self.flushLoggedErrors(ValueError)), kind)
            [text] = [
                event["log_format"].format(**event) for event in said if "log_failure" in event
            ]
            self.assertTrue(text.startswith("listener.one "), text)

    def test_later(self) -> None:
        """A Deferred or coroutine counts when it has ended."""
        listeners = Listeners(seconds=(times := iter(range(100))).__next__)
        waits: Deferred[str] = Deferred()

        class Later(ListenerBase):
            def __call__(self, event: Any) -> Any:
                return waits

        class Coroutine(ListenerBase):
            async def __call__(self, event: Any) -> Any:
                raise ValueError("no")

        told = listeners.add("later", Later())(None)
        self.assertEqual(0, listeners.calls["later"])
        waits.callback("done")
        self.assertEqual("done", self.successResultOf(told))
        self.assertEqual((1, 1.0), (listeners.calls["later"], listeners.seconds["later"]))
        ended = Deferred.fromCoroutine(listeners.add("coroutine", Coroutine())(None))
        self.failureResultOf(ended, ValueError)
        self.assertEqual((1, 1), (listeners.calls["coroutine"], listeners.failures["coroutine"]))
        self.assertEqual(4, next(times))

    def test_fails_later_again(self) -> None:
        """What is brought again is logged the first time, however the listener fails."""
        listeners = Listeners(is_kept=True)

        class Later(ListenerBase):
            def __call__(self, event: Any) -> Any:
                return fail(ValueError("no"))

        class Coroutine(ListenerBase):
            async def __call__(self, event: Any) -> Any:
                raise ValueError("no")

        class Ends(ListenerBase):
            def __call__(self, event: Any) -> Any:
                raise SystemExit

        for listener, kinds in (
            (Later(), [ValueError, NotNowError]),
            (Coroutine(), [ValueError, NotNowError]),
            (Ends(), [SystemExit, SystemExit]),
        ):
            call = listeners.add("one", listener)
            for kind in kinds:
                told = ensureDeferred(call_in_coroutine(call))
                failure = self.failureResultOf(told, kind)
                self.assertIn("no" if kind is not SystemExit else "", str(failure.value))

    def test_in_the_reactor(self) -> None:
        """A listener that wants it is called in the reactor's thread, also from another one."""
        calls: list[Any] = []

        def listen(event: Any) -> Deferred[str]:
            calls.append(event)
            return fail(ValueError("no")) if event == "fails" else succeed("done")

        tell = _activate._in_reactor(listen)
        self.patch(_activate, "isInIOThread", lambda: False)
        later = tell("elsewhere")
        self.assertEqual([], calls)
        self.assertEqual("done", self.successResultOf(Deferred.fromCoroutine(later)))
        self.patch(_activate, "isInIOThread", lambda: True)
        self.assertIsNone(tell("there"))
        self.assertIsNone(tell("fails"))
        self.assertEqual(["elsewhere", "there", "fails"], calls)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.assertTrue(ChannelListener.in_reactor and DispatcherListener.in_reactor)

    def test_closed_in_the_wrong_thread(self) -> None:
        """Listeners end where their dispatcher cannot be told of it, and hear no more."""

        def refuse(handler_id: int) -> None:
            raise WrongThreadError

        self.patch(self.dispatcher, "remove_event_handler", refuse)
        listeners = activate(settings(), self.dispatcher)
        listener = listeners.by_name["one"]
        listeners.close()
        self.assertEqual(1, listener.closed)
        self.assertEqual(1, len(self.flushLoggedErrors(WrongThreadError)))
        self.commit()
        self.assertEqual([], listener.heard)
        self.flushLoggedErrors(NotNowError)

    def test_blocks(self) -> None:
        """One that blocks is called in the transaction's thread, but never in the reactor's."""
        calls: list[Any] = []
        queued: list[Any] = []

        class Pool:
            def __init__(self, threads: int) -> None:
                pass

            def call(self, function: Any, event: Any) -> Any:
                queued.append(lambda: function(event))
                return fail(QueueFullError("queue", 1)) if event == "full" else succeed(None)

        def listen(event: Any) -> str:
            calls.append(event)
            if event == "down":
                raise NotNowError("Redis", "it is away")
            return "done"

        self.patch(_activate, "ThreadLimit", Pool)
        tell = _activate._in_thread(listen)
        self.patch(_activate, "isInIOThread", lambda: False)
        self.assertEqual("done", tell("elsewhere"))
        self.assertIsNone(tell("down"))
        self.patch(_activate, "isInIOThread", lambda: True)
        for event in ("there", "full"):
            self.assertIsNone(tell(event))
        self.assertEqual(["elsewhere", "down"], calls)
        queued[0]()
        self.assertEqual("there", calls[-1])
        self.assertEqual(1, len(self.flushLoggedErrors(QueueFullError)))

    def test_down_without_sources(self) -> None:
        """The log says once that a server is away, not once for each event."""
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        self.patch(Recorder, "blocks", True)
        listeners = activate(settings(), self.dispatcher)
        listeners.by_name["one"].fails = NotNowError("Redis", "it is away")
        for _ in range(3):
            self.commit()
        self.assertEqual(3, listeners.failures["one"])
        [event] = said
        self.assertIn("NotNowError: Redis", event["log_format"].format(**event))

    def test_closed(self) -> None:
        """All of them, whatever one does; and nobody hears anything then."""
        both = {**settings(stubborn=""), "event_listeners": "one two"}
        both["event_listeners.two.use"] = HERE
        listeners = activate(both, self.dispatcher)
        made = list(listeners.by_name.values())
        listeners.close()
        self.assertEqual([1, 1], [listener.closed for listener in made])
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))
        self.commit()
        self.assertEqual([[], []], [listener.heard for listener in made])
        self.assertEqual([], list(self.dispatcher.handlers()))


class KeptTests(KeptCase):
    """Listeners that a ledger brings the events to."""

    def setUp(self) -> None:
        """Switch one on."""
        super().setUp()
        self.listener = self.switch_on(settings()).by_name["one"]

    def update(self, new: Any, *, rolled_back: bool = False) -> None:
        """Update a record in a transaction."""
        self.record_in_one(
            *("article", "update"), id=1, uri="/articles/1", new=new, old={"n": 0},
            rolled_back=rolled_back,
        )  # fmt: skip

    def test_after_the_commit(self) -> None:
        """What was committed is heard, whole."""
        self.update({"n": 1})
        [event] = self.listener.heard
        self.assertIsInstance(event, AfterResourceChanged)
        self.assertEqual([{"new": {"n": 1}, "old": {"n": 0}}], event.impacted_records)
        self.assertEqual("/articles/1", event.impacted[0]["uri"])
        self.assertEqual(1, event.payload["article_id"])

    def test_only_its_own(self) -> None:
        """Names are taken as they are; what only looks like an event of resources is none."""
        self.listener.heard.clear()
        self.sources.unregister_group_handler("listener.one")
        only = activate(settings(resources="a.b"), self.dispatcher, self.sources).by_name["one"]
        for name, action in (("a.b", "create"), ("axb", "create"), ("a.b.create", "update")):
            self.record_in_one(name, action, id=1, uri="/", new={})
        with self.store.transaction() as transaction:
            other = Event(group="my.resource.a.b.create", key="mine", context={})
            self.sources.admit_within(transaction.connection, [other])
        self.run_for(10)
        self.assertEqual(["a.b"], [event.resource_name for event in only.heard])

    def test_reading(self) -> None:
        """What was read is heard as that."""
        self.sources.unregister_group_handler("listener.one")
        reads = activate(settings(actions="read"), self.dispatcher, self.sources).by_name["one"]
        for action in ("create", "read"):
            self.record_in_one("article", action, id=1, uri="/", new={})
        self.run_for(10)
        self.assertEqual([AfterResourceRead], list(map(type, reads.heard)))

    def test_where_it_is_called(self) -> None:
        """One that blocks in a thread, others in the reactor's."""
        said: list[Any] = []
        self.patch(
            self.sources, "register_group_handler", lambda *_, **how: said.append(how["threaded"])
        )
        for blocks in (True, False):
            self.patch(Recorder, "blocks", blocks)
            activate(settings(), self.dispatcher, self.sources)
        self.assertEqual([True, False], said)

    def test_rolled_back(self) -> None:
        """What was not is not: no ghost."""
        self.update({"n": 1}, rolled_back=True)
        self.run_for(60)
        self.assertEqual([], self.listener.heard)

    def test_fails(self) -> None:
        """A listener that fails is told again, until it succeeds: nothing is lost."""
        self.listener.fails = ConnectionError("down")
        self.update({"n": 1})
        self.flushLoggedErrors(ConnectionError)
        self.assertTrue(any("was told of is kept" in text for text in self.said))
        self.said.clear()
        self.run_for(600)
        self.update({"n": 2})
        self.assertLess(5, len(self.listener.heard))
        self.assertEqual(([], []), (self.said, self.flushLoggedErrors()))  # it was said before
        self.listener.fails = None
        self.listener.heard.clear()
        self.run_for(600)
        self.assertEqual(2, len(self.listener.heard))
        self.assertEqual(["The listener one succeeds again"], self.said)
        counted = self.successResultOf(self.sources.ledger.count())
        self.assertEqual((2, 0), (counted["done"], counted["pending"]))

    def test_closed(self) -> None:
        """What comes after the end stays kept, for the next process; the log is not full of it."""
        self.sources.unregister_group_handler("listener.one")
        listeners = activate(settings(), self.dispatcher, self.sources)
        listeners.close()
        self.said.clear()
        self.update({"n": 1})
        self.run_for(60)
        self.assertEqual(1, self.counted("pending"))
        self.assertEqual([], self.said)

    def test_many_records(self) -> None:
        """What is too large to be kept in one is brought in parts, each in its place, in order."""
        self.listener.heard.clear()
        with self.store.transaction() as transaction:
            events = self.events_in(transaction)
            for number in range(300):
                new = {"text": "x" * 1_000, "n": number}
                events.record("user", "create", id=number, uri=f"/{number}", user_id="me", new=new)
            events.record("tag", "create", id=1, uri="/tags/1", new={})
            events.before_commit()
            self.assertEqual([300, 1], [len(event.impacted) for event in events.told])
        events.committed()
        self.run_for(60)
        users = [event for event in self.listener.heard if event.resource_name == "user"]
        self.assertEqual(1, len(self.listener.heard) - len(users))
        self.assertLess(1, len(users))
        self.assertEqual(len(users), len({event.key for event in users}))
        records = sorted(record["new"]["n"] for each in users for record in each.impacted_records)
        self.assertEqual(list(range(300)), records)
        for each in users:
            first = each.impacted[0]
            self.assertEqual(first["new"], each.impacted_records[0]["new"])
            self.assertEqual(first["uri"], each.payload["uri"])
            self.assertEqual("me", each.payload["user_id"])

    def test_a_record_that_is_too_large(self) -> None:
        """It is refused in the transaction, with the others; nothing is committed."""

        def commit() -> None:
            with self.store.transaction() as transaction:
                events = self.events_in(transaction)
                for size in (10, 70_000, 10):
                    events.record("tag", "create", id=1, uri="/", new={"text": "x" * size})
                events.before_commit()

        error = self.assertRaises(LargeContextError, commit)
        self.assertEqual("context.impacted", error.field)
        self.assertEqual({}, dict(self.store.events))

    def test_nowhere_to_keep_it(self) -> None:
        """What is to be kept needs the transaction's connection, and that is said at once."""
        error = self.assertRaises(TypeError, ResourceEvents, self.dispatcher, sources=self.sources)
        self.assertIn("connection", str(error))

    def test_brought_at_once(self) -> None:
        """Who has committed lets the ledger be looked through: nobody waits for its next turn."""
        woken: list[bool] = []
        self.patch(self.sources, "wake", lambda: woken.append(True))
        events = ResourceEvents(self.dispatcher, sources=self.sources, connection=lambda: None)
        events.committed()
        self.assertEqual([True], woken)

    def test_activated_twice(self) -> None:
        """A second listener of the same name is refused, and all that came with it ended."""
        made: list[Recorder] = []

        class Kept(Recorder):
            def __init__(self, own: dict[str, Any]) -> None:
                super().__init__(own)
                made.append(self)

        self.patch(sys.modules[HERE], "Recorder", Kept)
        three = {"event_listeners": "two one three"}
        three |= {f"event_listeners.{name}.use": HERE for name in ("one", "two", "three")}
        self.assertRaises(GroupHandlerNameError, activate, three, self.dispatcher, self.sources)
        self.assertEqual([1, 1, 1], [each.closed for each in made])
        self.update({"n": 1})
        self.run_for(60)
        self.assertEqual((1, 0), (len(self.listener.heard), self.counted("pending")))

    def test_told_twice_before_one_commit(self) -> None:
        """What was kept is not kept again when the transaction goes on before its end."""
        with self.store.transaction() as transaction:
            events = self.events_in(transaction)
            for number in (1, 2):
                events.record("article", "create", id=number, uri="/", new={})
                events.before_commit()
        events.committed()
        self.run_for(0)
        heard = [event.payload["article_id"] for event in self.listener.heard]
        self.assertEqual([1, 2], sorted(heard))

    def test_what_cannot_be_kept(self) -> None:
        """It is refused in the transaction, with the field's name; nothing is committed."""
        error = self.assertRaises(UnkeptContextError, self.update, {"n": object()})
        self.assertIn("impacted", error.field)
        self.assertEqual({}, dict(self.store.events))

    def test_within(self) -> None:
        """Events of a block are kept on the connection that its transaction gives."""

        @contextmanager
        def transaction() -> Iterator[MemoryConnection]:
            with self.store.transaction() as begun:
                yield begun.connection

        block = ResourceEvents.within(transaction(), self.dispatcher, sources=self.sources)
        with block as (events, connection):
            connection.put("articles", 1)
            events.record("article", "create", id=1, uri="/", new={})
        self.run_for(0)
        self.assertEqual([1], [event.payload["article_id"] for event in self.listener.heard])


class ShippedTests(SynchronousTestCase):
    """The listeners that come with Oni."""

    EVENT = AfterResourceChanged(
        payload={
            "action": "create",
            "resource_name": "article",
            "article_id": 7,
            "user_id": "bob",
        },
        impacted_records=[{"new": {"id": 7}}],
        impacted=[{"id": 7, "uri": "/articles/7", "new": {"id": 7}}],
    )

    def load(self, use: str, extra: Any = None, **own: Any) -> Any:
        """Switch one on."""
        said = {"event_listeners": "one", "event_listeners.one.use": f"oni.listeners.{use}"}
        said |= {f"event_listeners.one.{name}": value for name, value in own.items()}
        listeners = activate(said, new_dispatcher(), extra=extra or {})
        return listeners.by_name["one"]

    def test_log(self) -> None:
        """It says which records, and not what is in them."""
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        self.load("log", level="warn")(self.EVENT)
        event = said[0]
        self.assertEqual("create article 7 by bob", event["log_format"].format(**event))
        many = AfterResourceChanged(
            payload={**self.EVENT.payload, "user_id": None},
            impacted=[{"id": number} for number in range(1_000)],
        )
        self.load("log")(many)
        self.assertEqual(
            "create article 0, 1, 2, 3, 4 and 995 more by nobody known",
            said[1]["log_format"].format(**said[1]),
        )
        self.assertEqual("warn", event["log_level"].name)
        error = self.assertRaises(SettingsError, self.load, "log", level="loud", colour="red")
        self.assertEqual(2, len(error.problems))

    def test_channel(self) -> None:
        """It publishes the payload, and the records where that is wanted."""
        published: list[Any] = []

        class Channel:
            def __init__(self, name: str) -> None:
                self.name = name

            def publish(self, *said: Any) -> Deferred[str]:
                published.append((self.name, *said))
                return succeed("position")

        channels = SimpleNamespace(get=Channel)
        listener = self.load("channel", {"channels": channels}, channel="{resource_name}s")
        self.assertEqual("position", self.successResultOf(listener(self.EVENT)))
        whole = self.load("channel", {"channels": channels}, channel="all", records="yes")
        whole(self.EVENT)
        payload = dict(self.EVENT.payload)
        self.assertEqual(
            [
                ("articles", "article_create", {"payload": payload}),
                (
                    "all",
                    "article_create",
                    {"payload": payload, "impacted_records": [{"new": {"id": 7}}]},
                ),
            ],
            published,
        )
        error = self.assertRaises(SettingsError, self.load, "channel", records="perhaps", x=1)
        self.assertEqual(3, len(error.problems))
        for wrong in ("{", "{}", "{0}", "{user_id.__class__}", "{user_id[0]}"):
            error = self.assertRaises(SettingsError, self.load, "channel", channel=wrong)
            self.assertIn("in braces", error.problems[0])
        self.load("channel", channel="{{all}}:{article_id}-{from-url}")
        self.assertIsInstance(listener, ChannelListener)

    def test_utilities(self) -> None:
        """Where nothing else is given they ask for the process's own, when they are called."""
        published: list[Any] = []
        dispatcher = new_dispatcher()
        dispatcher.add_event_handler(published.append, "during", use_weakref=False)

        class Channel:
            def publish(self, kind: str, data: Any) -> Deferred[None]:
                published.append(kind)
                return succeed(None)

        channels = SimpleNamespace(get=lambda name: Channel())
        listeners = self.load("channel", channel="all"), self.load("dispatcher")
        registry = getGlobalSiteManager()
        for utility, provided in ((channels, IChannels), (dispatcher, IEventDispatcher)):
            registry.registerUtility(utility, provided)
            self.addCleanup(registry.unregisterUtility, utility, provided)
        for listener in listeners:
            self.successResultOf(listener(self.EVENT))
        self.assertEqual(["article_create", self.EVENT], published)

    def test_dispatcher(self) -> None:
        """It fires at a dispatcher, and fails with its handlers."""
        dispatcher = EventDispatcher(("resource_name", "action"))
        dispatcher.start()
        heard: list[Any] = []
        dispatcher.add_event_handler(
            heard.append, "during", use_weakref=False, resource_name="article"
        )
        listener = self.load("dispatcher", {"dispatcher": dispatcher})
        self.assertIsNone(self.successResultOf(listener(self.EVENT)))
        self.assertEqual([self.EVENT], heard)

        def fails(event: Any) -> None:
            raise ValueError("no")

        dispatcher.add_event_handler(fails, "after", use_weakref=False)
        self.failureResultOf(listener(self.EVENT), WatchersFailedError)
        self.flushLoggedErrors(ValueError)
        self.assertRaises(SettingsError, self.load, "dispatcher", x=1)
        resources = new_dispatcher()
        resources.add_event_handler(
            heard.append, "during", use_weakref=False, kind=AfterResourceChanged
        )
        heard.clear()
        self.successResultOf(self.load("dispatcher", {"dispatcher": resources})(self.EVENT))
        self.assertEqual([self.EVENT], heard)
        self.assertIsInstance(listener, DispatcherListener)
