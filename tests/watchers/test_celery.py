"""The sender and the receiver, on brokers in memory and in folders."""

from __future__ import annotations

import inspect
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from celery import Celery
from celery._state import get_current_app
from celery.exceptions import Reject, WorkerShutdown
from celery.signals import worker_ready
from kombu import Exchange, Queue
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.component.globalregistry import BaseGlobalComponents
from zope.interface.verify import verifyObject

from oni.errors import (
    ForkedProcessError,
    LedgerUnavailableError,
    LedgerUrlError,
    MissingExtraError,
    NotNowError,
    SettingsError,
    UnsendableError,
    WatcherNameError,
)
from oni.interfaces import IModelEventWatcher
from oni.ledger import Ledger, MemoryStore
from oni.watchers import (
    CompositeModelEventWatcher,
    ModelEventWatcherCeleryReceiver,
    ModelEventWatcherCelerySender,
    _configure,
    configure_model_watcher,
    settings_from_ini,
)
from oni.watchers.celery import TASK, _inbox, _receiver
from oni.watchers.celery._kept import LostMessage
from oni.watchers.celery._lost import LostAndFound
from oni.watchers.celery._messages import Heard, read, write
from oni.watchers.celery._post import Post
from tests.ledger.threads import AtOnce
from tests.watchers.test_watchers import DETAILS, Reactor, Recorder, tell_all

MESSAGE = write(Heard("k", "blog.Post", "created", 1, DETAILS))


class Notifications:
    """Hears of posts."""

    def processPostCreated(self, id: int) -> None:
        """Hear of one."""


def queued(app: Celery, queue: str = "oni") -> list[Any]:
    """Take all messages of a queue of a broker in this process."""
    found = []
    with app.connection_for_write() as connection, connection.SimpleQueue(queue) as simple:
        while simple.qsize():
            message = simple.get(block=False)
            message.ack()
            found.append(message)
    return found


class SenderTests(SynchronousTestCase):
    """What it hears is a task for a worker."""

    def setUp(self) -> None:
        """Have a broker in memory."""
        self.reactor = Reactor()
        self.app = Celery("mine", broker="memory://", set_as_current=False)

    def sender(self, **options: Any) -> ModelEventWatcherCelerySender:
        """Make a sender that is stopped with the test."""
        made = ModelEventWatcherCelerySender(self.app, reactor=self.reactor, **options)
        self.addCleanup(made.stop)
        return made

    def test_messages(self) -> None:
        """Each change is one, with its key if it has one, kept on the broker's disk."""
        sender = self.sender(queue="posts")
        self.assertTrue(verifyObject(IModelEventWatcher, sender))
        told = [*tell_all(sender), sender.created("blog.Post", 2, {"key": "mine"})]
        self.reactor.until(lambda: all(each.called for each in told))
        self.assertEqual([None] * 4, [self.successResultOf(each) for each in told])
        messages = queued(self.app, "posts")
        self.assertEqual({TASK}, {message.headers["task"] for message in messages})
        self.assertEqual({2}, {message.properties["delivery_mode"] for message in messages})
        heard = [read(json.loads(message.body)[0][0]) for message in messages]
        actions = [(each.action, each.id) for each in heard]
        self.assertEqual(
            [("created", 1), ("modified", 1), ("deleted", 1), ("created", 2)], actions
        )
        self.assertEqual(DETAILS, heard[0].details)
        self.assertEqual(("mine", {}), (heard[3].key, heard[3].details))
        self.assertEqual(4, len({each.key for each in heard}))
        self.assertEqual(4, sender.statistics()["sent"])

    def test_routes(self) -> None:
        """They lead where the app says; the message knows where it is."""
        self.app.conf.task_routes = {"oni.*": {"queue": "routed"}}
        told = self.sender().created("blog.Post", 1, {})
        self.reactor.until(lambda: told.called)
        (message,) = queued(self.app, "routed")
        self.assertEqual([1, None, "routed"], json.loads(message.body)[0][1:])

    def test_several_brokers(self) -> None:
        """When one takes no connection the next one is asked for the next message."""
        tried: list[str] = []

        def refuse(connection: Connection, **options: Any) -> None:
            tried.append(connection.hostname)
            raise OperationalError("refused")

        self.patch(Connection, "ensure_connection", refuse)
        post = Post(Celery("mine", broker="amqp://a//;amqp://b//", set_as_current=False), 5.0)
        for _ in range(3):
            self.assertRaises(OperationalError, post.send, MESSAGE, "k")
        self.assertEqual(["a", "b", "a"], tried)

    def test_a_route_without_a_queue(self) -> None:
        """It is known only by an exchange and a key."""
        self.app.conf.task_routes = {"oni.*": {"exchange": "posts", "routing_key": "key"}}
        with self.app.connection_for_write() as connection:
            Queue("bound", Exchange("posts"), "key").bind(connection.default_channel).declare()
        told = self.sender().created("blog.Post", 1, {})
        self.reactor.until(lambda: told.called)
        (message,) = queued(self.app, "bound")
        self.assertEqual([1, None, None], json.loads(message.body)[0][1:])

    def test_what_is_no_address(self) -> None:
        """Is said at once, without the password that it most likely has."""
        for address in (
            "amqp://ann:s3c/r3t@127.0.0.1//",
            "redis://127.0.0.1/0?password=s3c",
            "nothing://ann:s3c@127.0.0.1",
        ):
            error = self.assertRaises(ValueError, ModelEventWatcherCelerySender, broker=address)
            self.assertIn("no broker's address", str(error))
            told = "".join(traceback.format_exception(error))
            self.assertEqual([], [part for part in ("s3c", "r3t", "nothing://") if part in told])

    def test_without_redis_client(self) -> None:
        """The error names the extra; other brokers need none."""
        for scheme in ("redis", "rediss", "redis+socket", "sentinel"):
            broker = f"{scheme}://ann:s3c@127.0.0.1/0"
            with patch.dict(sys.modules, {"redis": None}):
                for ask in (
                    lambda broker=broker: ModelEventWatcherCelerySender(broker=broker),
                    lambda broker=broker: ModelEventWatcherCelerySender.from_settings(
                        {"web.celery.broker": broker}, "web"
                    ),
                ):
                    error = self.assertRaises(MissingExtraError, ask)
                    self.assertEqual("redis", error.extra)
                    self.assertNotIn("s3c", str(error))
                ModelEventWatcherCelerySender(broker="amqp://127.0.0.1//")

    def test_no_call_in_the_caller_s_thread(self) -> None:
        """Nothing of the broker's is done in the thread that tells it."""
        threads: set[int] = set()
        send_task = self.app.send_task

        def watched(*args: Any, **options: Any) -> Any:
            threads.add(threading.get_ident())
            return send_task(*args, **options)

        self.app.send_task = watched
        connect = self.app.connection_for_write

        def watched_connect(*args: Any, **options: Any) -> Any:
            threads.add(threading.get_ident())
            return connect(*args, **options)

        self.app.connection_for_write = watched_connect
        told = tell_all(self.sender())
        self.reactor.until(lambda: all(each.called for each in told))
        self.assertEqual(1, len(threads))
        self.assertNotIn(threading.get_ident(), threads)

    def test_what_cannot_be_sent(self) -> None:
        """Is one clear error, and no outage of the broker's."""
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        for details, field in (
            ({"new": {"photo": object()}}, "details.new.photo"),
            ({"key": 7}, "details.key"),
        ):
            told = self.sender().created("blog.Post", 1, details)
            error = self.failureResultOf(told, UnsendableError).value
            self.assertEqual(field, error.field)
        self.assertEqual([], [each for each in said if "broker" in each.get("log_format", "")])

    def test_an_app_of_one_s_own(self) -> None:
        """Has its broker."""
        self.assertRaises(ValueError, ModelEventWatcherCelerySender, self.app, broker="memory://")

    def test_no_broker(self) -> None:
        """Goes through a folder, from one process to another, and says so."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        sender = ModelEventWatcherCelerySender(folder=str(folder), reactor=self.reactor)
        self.addCleanup(sender.stop)
        self.assertEqual(1, len([e for e in said if "No broker is said" in e["log_format"]]))
        told = sender.created("blog.Post", 1, {})
        self.reactor.until(lambda: told.called)
        self.successResultOf(told)
        self.assertEqual(1, len(list((folder / "queue").iterdir())))
        receiver = ModelEventWatcherCeleryReceiver(Recorder(), folder=str(folder))
        self.assertEqual(1, len(queued(receiver.app)))


class ReceiverCase(SynchronousTestCase):
    """Has a receiver, and plays the worker."""

    def setUp(self) -> None:
        """Begin with nothing sent."""
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.broker: Callable[[], object] = lambda: None
        self.kept: Any = None
        test = self

        class Post:
            """Stands for the broker."""

            def __init__(self, app: Celery, timeout: float) -> None:
                """Take what the other one takes."""

            def kept(self, queue: str | None) -> Any:
                """Give what there is."""
                return test.kept

            def send(self, message: str, key: str, **options: Any) -> None:
                """Keep it."""
                test.assertEqual("k", key)
                test.broker()
                test.sent.append((message, options))

        self.patch(_receiver, "Post", Post)
        self.patch(_receiver, "setup", lambda: None)
        self.patch(_receiver, "in_reactor", self.wait)
        self.patch(_inbox, "in_reactor", self.wait)
        self.slept: list[float] = []
        self.patch(_receiver.time, "sleep", self.slept.append)
        self.patch(_receiver.random, "random", lambda: 1.0)
        self.said: list[str] = []
        globalLogPublisher.addObserver(self.hear)
        self.addCleanup(globalLogPublisher.removeObserver, self.hear)

    def hear(self, event: Any) -> None:
        """Keep what is logged."""
        if event.get("log_namespace", "").startswith("oni.watchers"):
            self.said.append(event["log_format"].format(**event))

    def wait(self, function: Callable[[], Any], seconds: float | None = None) -> Any:
        """Wait as the reactor's thread would let us."""
        result = function()
        if not isinstance(result, Deferred):
            result = Deferred.fromCoroutine(_inbox._wait(result))
        found: list[Any] = []
        result.addBoth(found.append)
        self.turn(found)
        if isinstance(found[0], Failure):
            found[0].raiseException()
        return found[0]

    def turn(self, found: list[Any]) -> None:
        """Let the reactor turn until there is something."""

    def receiver(self, watcher: Any, **options: Any) -> ModelEventWatcherCeleryReceiver:
        """Make one."""
        return ModelEventWatcherCeleryReceiver(watcher, broker="memory://", **options)

    def receive(
        self,
        receiver: ModelEventWatcherCeleryReceiver,
        message: Any = MESSAGE,
        attempt: int = 1,
        token: str | None = None,
        queue: str | None = "posts",
        exchange: str = "",
    ) -> None:
        """Give it a message, as a worker does."""
        info = {"exchange": exchange, "routing_key": "key"}
        request = SimpleNamespace(id="id", delivery_info=info)
        receiver._receive(SimpleNamespace(request=request), message, attempt, token, queue)


def asleep(*said: Any) -> None:
    """Fail for now."""
    raise NotNowError("the mail server", "it is asleep")


def broken(*said: Any) -> None:
    """Fail."""
    raise ValueError("broken")


class ReceiverTests(ReceiverCase):
    """A message is acknowledged when the watcher has succeeded."""

    def test_heard(self) -> None:
        """With what the sender was told, and the key."""
        heard: list[Any] = []

        class Watcher(Recorder):
            def created(self, model: str, id: Any, details: Any) -> None:
                heard.append((model, id, dict(details)))

        receiver = self.receiver(Watcher())
        self.assertTrue(verifyObject(IModelEventWatcher, receiver))
        self.receive(receiver)
        self.assertEqual([("blog.Post", 1, {**DETAILS, "key": "k"})], heard)
        self.assertEqual([], self.sent)

    def test_the_task(self) -> None:
        """Is acknowledged late, and given back when its worker dies; whatever others do."""
        app = Celery("mine", broker="memory://", set_as_current=False)
        app.conf.update(task_acks_on_timeout=True, task_acks_on_failure=True)
        receiver = ModelEventWatcherCeleryReceiver(Recorder(), app)
        task = app.tasks[TASK]
        self.assertEqual((True, True), (task.acks_late, task.reject_on_worker_lost))
        self.assertTrue(task.ignore_result)
        self.assertEqual((False, False), (task.acks_on_failure, task.acks_on_timeout))
        task.apply(args=[MESSAGE])
        self.assertEqual([("blog.Post", "created", 1)], receiver.watcher.heard)

    def test_two_for_one_app(self) -> None:
        """The second one would never be called."""
        app = Celery("mine", broker="memory://", set_as_current=False)
        ModelEventWatcherCeleryReceiver(Recorder(), app)
        self.assertRaises(ValueError, ModelEventWatcherCeleryReceiver, Recorder(), app)

    def test_no_reactor(self) -> None:
        """A worker that cannot have one gives its messages back, and says so once."""
        receiver = self.receiver(Recorder())

        def forked() -> None:
            raise ForkedProcessError("forked")

        self.patch(_receiver, "setup", forked)
        with self.assertLogs(_receiver.__name__, "CRITICAL") as logs:
            for _ in range(2):
                error = self.assertRaises(Reject, receiver.app.tasks[TASK].run, MESSAGE)
                self.assertTrue(error.requeue)
        self.assertEqual((1, []), (len(logs.output), receiver.watcher.heard))

    def test_the_worker(self) -> None:
        """Takes one at a time, waits for its broker, and lets Redis give back what it lost."""
        app = self.receiver(Recorder(), visibility_timeout=70).app
        self.assertIsNot(get_current_app(), app)  # it is nobody else's
        conf = app.conf
        self.assertEqual(1, conf.worker_prefetch_multiplier)
        self.assertTrue(conf.broker_connection_retry_on_startup)
        self.assertIsNone(conf.broker_connection_max_retries)
        self.assertEqual(1000, conf.worker_eta_task_limit)
        self.assertEqual(
            {"visibility_timeout": 70, "unacked_restore_throttle": 1},
            conf.broker_transport_options,
        )

    def test_an_app_of_one_s_own(self) -> None:
        """What its user has said stays; also when it is said later."""
        for is_configured in (True, False):
            app = Celery("mine", broker="memory://", set_as_current=False)
            if is_configured:
                app.conf.worker_prefetch_multiplier = 4
                app.conf.broker_transport_options = {"visibility_timeout": 10}
                self.assertEqual(4, app.conf.worker_prefetch_multiplier)
            ModelEventWatcherCeleryReceiver(Recorder(), app)
            if not is_configured:
                said = {"visibility_timeout": 10}
                app.config_from_object(
                    SimpleNamespace(worker_prefetch_multiplier=4, broker_transport_options=said)
                )
            self.assertEqual(4, app.conf.worker_prefetch_multiplier)
            options = app.conf.broker_transport_options
            self.assertEqual(10, options["visibility_timeout"])
            self.assertEqual(1, options["unacked_restore_throttle"])
            self.assertEqual(1000, app.conf.worker_eta_task_limit)

    def test_failed(self) -> None:
        """It is sent again, to the queue that it came from, later each time, without end."""
        receiver = self.receiver(Recorder(broken))
        for attempt in (1, 2, 5, 1000):
            self.receive(receiver, attempt=attempt)
        self.assertEqual({MESSAGE}, {message for message, _ in self.sent})
        self.assertEqual(
            [
                {"attempt": 2, "countdown": 1.0, "queue": "posts"},
                {"attempt": 3, "countdown": 2.0, "queue": "posts"},
                {"attempt": 6, "countdown": 16.0, "queue": "posts"},
                {"attempt": 1001, "countdown": 60.0, "queue": "posts"},
            ],
            [options for _, options in self.sent],
        )
        self.assertEqual(4, len(self.said))
        self.assertIn("with k in attempt 2, and is called again in 2 s: ValueError", self.said[1])
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_not_sooner_than_in_a_second(self) -> None:
        """RabbitMQ's queues that wait themselves know no parts of it."""
        self.patch(_receiver.random, "random", lambda: 0.0)
        self.receive(self.receiver(Recorder(asleep)))
        self.assertEqual(1.0, self.sent[0][1]["countdown"])

    def test_sooner_than_redis(self) -> None:
        """A message that waits for its time is not given to a second worker meanwhile."""
        receiver = self.receiver(Recorder(asleep), visibility_timeout=20)
        self.receive(receiver, attempt=9)
        self.assertEqual(10.0, self.sent[0][1]["countdown"])

    def test_from_another_program(self) -> None:
        """It goes back to the queue that it came from, as far as that can be told."""
        receiver = self.receiver(Recorder(asleep))
        self.receive(receiver, queue=None)
        self.receive(receiver, queue=None, exchange="a topic")
        self.assertEqual(["key", None], [options["queue"] for _, options in self.sent])

    def test_not_now(self) -> None:
        """Who says so itself is not spoken for."""
        self.receive(self.receiver(Recorder(asleep)))
        self.assertEqual((1, []), (len(self.sent), self.said))

    def test_what_exits(self) -> None:
        """Is a failure like any other, and no end of the worker."""

        def leave(*said: Any) -> None:
            raise SystemExit(1)

        self.receive(self.receiver(Recorder(leave)))
        self.assertEqual(1, len(self.sent))
        self.assertIn("SystemExit: 1", self.said[0])
        self.flushLoggedErrors(RuntimeError)

    def test_the_worker_s_end(self) -> None:
        """Goes on its way; the message comes again, as it is not acknowledged.

        If it were sent again, too, there would be two of it each time that a watcher takes longer
        than Celery lets it.
        """
        for error in (WorkerShutdown(0), SystemExit(-(256 - signal.SIGTERM)), KeyboardInterrupt()):

            def end(*said: Any, error: BaseException = error) -> None:
                raise error

            self.assertRaises(type(error), self.receive, self.receiver(Recorder(end)))
            self.assertEqual([], self.sent)

    def test_failed_and_the_broker_is_away(self) -> None:
        """The message is given back, and not at once, as it may come at once."""

        def away() -> None:
            raise ConnectionResetError("gone")

        self.broker = away
        error = self.assertRaises(Reject, self.receive, self.receiver(Recorder(asleep)))
        self.assertTrue(error.requeue)
        self.assertEqual([1.0], self.slept)

    def test_unreadable(self) -> None:
        """It is dropped with an error in the log; the broker may have a place for such ones."""
        watcher = Recorder()
        error = self.assertRaises(Reject, self.receive, self.receiver(watcher), "{}")
        self.assertFalse(error.requeue)
        self.assertEqual(([], []), (self.sent, watcher.heard))
        self.assertEqual(1, len(self.said))

    def test_from_a_newer_program(self) -> None:
        """It waits for a worker that knows it."""
        newer = json.dumps({**json.loads(MESSAGE), "v": 2})
        self.receive(self.receiver(Recorder()), newer)
        self.assertEqual([newer], [message for message, _ in self.sent])
        self.assertEqual(1, len(self.said))
        self.flushLoggedErrors()

    def test_what_is_waited_for(self) -> None:
        """Coroutines and Deferreds."""
        ended: list[str] = []

        async def coroutine(*said: Any) -> None:
            ended.append("coroutine")

        class Awaitable:
            def __await__(self) -> Any:
                ended.append("awaitable")
                return iter(())

        def fired(*said: Any) -> Any:
            return succeed(None).addCallback(lambda _: ended.append("fired"))

        waiting: Deferred[None] = Deferred()

        def later(*said: Any) -> Any:
            return waiting.addCallback(lambda _: ended.append("later"))

        self.turn = lambda found: None if waiting.called else waiting.callback(None)  # type: ignore[method-assign]
        for answer in (coroutine, lambda *said: Awaitable(), fired, later):
            self.receive(self.receiver(Recorder(answer)))
        self.assertEqual(["coroutine", "awaitable", "fired", "later"], ended)
        self.assertEqual([], self.sent)

    def test_what_is_waited_for_fails(self) -> None:
        """So the watcher has."""

        async def coroutine(*said: Any) -> None:
            asleep()

        for answer in (coroutine, lambda *said: fail(NotNowError("a", "b"))):
            self.receive(self.receiver(Recorder(answer)))
        self.assertEqual(2, len(self.sent))

    def test_on_redis(self) -> None:
        """Only the latest copy of a message is handled, and it is kept until that is done."""
        forgotten: list[str] = []
        self.kept = SimpleNamespace(
            is_current=lambda key, token: (key, token) == ("k", "latest"), forget=forgotten.append
        )
        failing = [True]
        watcher = Recorder(lambda *said: asleep() if failing[0] else None)
        receiver = self.receiver(watcher)
        self.receive(receiver, token="older")
        self.assertEqual(([], [], []), (watcher.heard, self.sent, forgotten))
        self.receive(receiver, token="latest")
        self.assertEqual((1, 1, []), (len(watcher.heard), len(self.sent), forgotten))
        failing[0] = False
        self.receive(receiver, token="latest")
        self.assertEqual((2, 1, ["k"]), (len(watcher.heard), len(self.sent), forgotten))

    def test_several(self) -> None:
        """All are called whatever becomes of the others; without a ledger all are again."""
        first, second = Recorder(asleep), Recorder()
        receiver = self.receiver(CompositeModelEventWatcher(first, second), name="site")
        self.receive(receiver)
        self.receive(receiver, attempt=2)
        self.assertEqual((2, 2), (len(first.heard), len(second.heard)))

    def test_two_of_one_name(self) -> None:
        """Would be one in the ledger."""
        both = CompositeModelEventWatcher(Recorder(), Recorder())
        self.assertRaises(ValueError, self.receiver, both)


class LostTests(SynchronousTestCase):
    """What Redis was lost with."""

    def test_when_a_worker_is_ready(self) -> None:
        """Its queues are looked after, twice as long after as Redis gives it back itself."""
        made: list[Any] = []

        def look_after(make_post: Any, queues: Any, seconds: float) -> Any:
            made.append((list(queues), seconds))
            return SimpleNamespace(start=lambda: None)

        self.patch(_receiver, "LostAndFound", look_after)
        receiver = ModelEventWatcherCeleryReceiver(
            Recorder(), broker="memory://", visibility_timeout=7
        )

        class Worker:
            app: Any = None

        worker = Worker()
        worker_ready.send(worker)
        worker.app = receiver.app
        worker_ready.send(worker)
        receiver.app.conf.broker_transport_options = {}  # of its user's, and later
        worker_ready.send(worker)
        self.assertEqual([(["oni"], 14), (["oni"], 7200)], made)

    def test_sent_again(self) -> None:
        """As the same attempt, to its queue."""
        asked: list[float] = []
        sent: list[Any] = []

        def lost(seconds: float) -> Any:
            asked.append(seconds)
            return [LostMessage("k", MESSAGE, 7)]

        post: Any = SimpleNamespace(
            kept=lambda queue: SimpleNamespace(lost=lost),
            send=lambda *words, **options: sent.append((words, options)),
        )
        self.assertTrue(LostAndFound(lambda: post, ["posts"], 600.0).look(post))
        self.assertEqual([600.0], asked)
        self.assertEqual([((MESSAGE, "k"), {"attempt": 7, "queue": "posts"})], sent)

    def test_other_brokers(self) -> None:
        """Lose nothing so."""
        post: Any = SimpleNamespace(kept=lambda queue: None)
        self.assertFalse(LostAndFound(lambda: post, ["posts"], 600.0).look(post))

    def test_until_it_is_known(self) -> None:
        """A broker that is away is asked again; what can lose nothing keeps no connection."""
        closed: list[int] = []
        asked: list[str] = []

        def kept(queue: str) -> None:
            asked.append(queue)
            if len(asked) == 1:
                raise OperationalError("refused")

        post: Any = SimpleNamespace(kept=kept, close=lambda: closed.append(len(asked)))
        looking = LostAndFound(lambda: post, ["posts"], 600.0)
        looking._interval = 0.0
        looking._live()
        self.assertEqual(["posts", "posts"], asked)
        self.assertEqual([1, 2], closed)


class LedgerTests(ReceiverCase):
    """With a ledger nothing is handled twice that was handled once."""

    def setUp(self) -> None:
        """Have a ledger in memory."""
        super().setUp()
        self.clock = Reactor()
        self.store = MemoryStore(clock=self.clock.seconds)
        self.patch(_inbox.time, "sleep", self.clock.advance)

    def make(self) -> Ledger:
        """Make a ledger over the store, as each process does."""
        return Ledger(
            self.store,
            interval=None,
            reactor=self.clock,
            make_threads=lambda name, size: AtOnce(),
        )

    def turn(self, found: list[Any]) -> None:
        """Let the reactor turn until there is something."""
        for _ in range(100):
            if found:
                return
            self.clock.advance(0)

    def test_once(self) -> None:
        """However often a message comes, and to whichever process."""
        watcher = Recorder()
        for _ in range(2):
            receiver = self.receiver(watcher, ledger=self.make)
            self.receive(receiver)
            self.receive(receiver)
        self.assertEqual([("blog.Post", "created", 1)], watcher.heard)
        self.assertEqual(([], []), (self.sent, self.said))

    def test_until_it_succeeds(self) -> None:
        """A failure is tried again as soon as its message comes again."""
        failing = [True]
        watcher = Recorder(lambda *said: asleep() if failing[0] else None)
        receiver = self.receiver(watcher, ledger=self.make)
        for attempt in range(1, 30):
            self.receive(receiver, attempt=attempt)
        failing[0] = False
        self.receive(receiver, attempt=30)
        self.receive(receiver, attempt=31)
        self.assertEqual((30, 29), (len(watcher.heard), len(self.sent)))

    def test_what_exits(self) -> None:
        """Is tried again like what fails: the ledger knows that nobody is busy with it."""

        def leave(*said: Any) -> None:
            raise SystemExit(-1)

        watcher = Recorder(leave)
        receiver = self.receiver(watcher, ledger=self.make)
        for attempt in (1, 2):
            self.receive(receiver, attempt=attempt)
        self.assertEqual(2, len(watcher.heard))
        self.flushLoggedErrors(RuntimeError)

    def test_an_operator_ends_it(self) -> None:
        """What somebody has said is done is not called again."""
        watcher = Recorder(asleep)
        receiver = self.receiver(watcher, ledger=self.make, name="notify")
        self.receive(receiver)
        with self.store.transaction() as transaction:
            transaction.resolve("notify", "k", "done", "ann")
        self.receive(receiver, attempt=2)
        self.assertEqual((1, 1), (len(watcher.heard), len(self.sent)))

    def test_each_for_itself(self) -> None:
        """Of several watchers only the one that has failed is called again."""
        failing = [True]
        first, second = Recorder(lambda *said: asleep() if failing[0] else None), Recorder()
        both = CompositeModelEventWatcher(first, second)
        receiver = self.receiver(both, ledger=self.make, name="site")
        self.receive(receiver)
        failing[0] = False
        self.receive(receiver, attempt=2)
        self.assertEqual((2, 1), (len(first.heard), len(second.heard)))

    def test_another_has_it(self) -> None:
        """What another worker is busy with comes again later, in case that one dies."""
        inner: list[Any] = []
        receivers: list[Any] = []

        def answer(*said: Any) -> None:
            inner.append(said)
            if len(inner) == 1:
                self.receive(receivers[1])

        receivers += [self.receiver(Recorder(answer), ledger=self.make) for _ in range(2)]
        self.receive(receivers[0])
        self.assertEqual((1, 1, []), (len(inner), len(self.sent), self.said))
        self.receive(receivers[1], attempt=2)
        self.assertEqual((1, 1), (len(inner), len(self.sent)))

    def test_a_ledger_that_is_away(self) -> None:
        """The message comes again; and nobody was called whose success would not be kept.

        The log says once that it is away, and once that it is back.
        """
        is_away = [True]
        begin = self.store.transaction

        def transaction(read: bool = False) -> Any:
            if is_away[0]:
                raise LedgerUnavailableError("the cable is out")
            return begin(read)

        self.patch(self.store, "transaction", transaction)
        watcher = Recorder()
        receiver = self.receiver(watcher, ledger=self.make)
        for _ in range(3):
            self.receive(receiver)
        self.assertEqual((3, []), (len(self.sent), watcher.heard))
        is_away[0] = False
        for attempt in (2, 3):
            self.receive(receiver, attempt=attempt)
        self.assertEqual((3, 1), (len(self.sent), len(watcher.heard)))
        self.assertEqual(
            [
                "The ledger of what was received cannot be used, and is tried again: "
                "the cable is out",
                "The ledger of what was received can be used again",
            ],
            self.said,
        )
        self.flushLoggedErrors(LedgerUnavailableError)

    def test_away_as_it_is_done(self) -> None:
        """It is told a few times that something is done: else it would be done again."""
        away = [0]
        begin = self.store.transaction

        def transaction(read: bool = False) -> Any:
            if away[0]:
                away[0] -= 1
                raise LedgerUnavailableError("the cable is out")
            return begin(read)

        self.patch(self.store, "transaction", transaction)

        def pull(*said: Any) -> None:
            away[0] = 3

        watcher = Recorder(pull)
        receiver = self.receiver(watcher, ledger=self.make)
        self.receive(receiver)
        self.assertEqual((0, 1, []), (away[0], len(watcher.heard), self.sent))

    def test_another_process(self) -> None:
        """Each opens a ledger of its own: a fork has none of its parent's."""
        made: list[Ledger] = []

        def make() -> Ledger:
            made.append(self.make())
            return made[-1]

        receiver = self.receiver(Recorder(), ledger=make)
        self.receive(receiver)
        self.receive(receiver)
        self.assertEqual(1, len(made))
        self.patch(_inbox.os, "getpid", lambda: -1)
        self.receive(receiver)
        self.assertEqual(2, len(made))

    def test_long_keys(self) -> None:
        """Are made shorter, and still tell one from another."""
        watcher = Recorder()
        receiver = self.receiver(watcher, ledger=self.make)
        for key in ("k" * 300 + "1", "k" * 300 + "2", "k" * 300 + "1"):
            self.receive(receiver, write(Heard(key, "blog.Post", "created", key, {})))
        self.assertEqual(2, len(watcher.heard))

    def test_within_the_transaction(self) -> None:
        """What is written through it is kept together with that it is done."""
        given: list[Any] = []

        class Watcher(Recorder):
            def created(self, model: str, id: Any, details: Any) -> Any:
                given.append(details["transaction"])
                if len(given) == 1:
                    asleep()

        receiver = self.receiver(Watcher(), ledger=self.make, transaction=True)
        for attempt in (1, 2, 3):
            self.receive(receiver, attempt=attempt)
        self.assertEqual((2, 1), (len(given), len(self.sent)))
        self.assertIsNotNone(given[0])

    def test_nothing_to_wait_for_within_a_transaction(self) -> None:
        """Nobody could."""

        async def coroutine(*said: Any) -> None:
            """Never begin."""

        made = [coroutine()]
        answer = Recorder(lambda *said: made[0])
        receiver = self.receiver(answer, ledger=self.make, transaction=True)
        self.receive(receiver)
        self.assertEqual(1, len(self.sent))
        self.assertEqual(1, len(self.flushLoggedErrors(TypeError)))
        self.assertEqual(inspect.CORO_CLOSED, inspect.getcoroutinestate(made[0]))

    def test_nothing_left_to_wait_for_within_a_transaction(self) -> None:
        """A Deferred that has fired is as good as what it has."""
        told: list[Any] = [succeed(None), fail(NotNowError("a", "b"))]
        watcher = Recorder(lambda *said: told.pop())
        receiver = self.receiver(watcher, ledger=self.make, transaction=True)
        for attempt in (1, 2, 3):
            self.receive(receiver, attempt=attempt)
        self.assertEqual((1, [], []), (len(self.sent), self.said, told))

    def test_what_cannot_be(self) -> None:
        """Is said at once."""
        self.assertRaises(ValueError, self.receiver, Recorder(), transaction=True)
        self.assertRaises(LedgerUrlError, self.receiver, Recorder(), ledger="nowhere://")


SENDER = "oni.watchers.ModelEventWatcherCelerySender"

INI = f"""\
[app:blog]
web.imodeleventwatcher = oni.watchers.ModelEventWatcherCelerySender
web.celery.broker = memory://
web.celery.queue = posts
web.celery.timeout = 2.5

notify.imodeleventwatcher = oni.watchers.ModelEventWatcherCeleryReceiver
notify.celerymodelwatcher = {__name__}.Notifications
notify.celery.broker = memory://
notify.celery.ledger = sqlite:////nowhere/ledger.db
notify.celery.visibility_timeout = 60
notify.celery.transaction = false

lost.imodeleventwatcher = oni.watchers.ModelEventWatcherCeleryReceiver
wrong.imodeleventwatcher = oni.watchers.ModelEventWatcherCelerySender
wrong.celery.broker = secret
wrong.celery.timeout = never
wrong.celery.app = nowhere.app
wrong.celery.speed = 7

password.imodeleventwatcher = oni.watchers.ModelEventWatcherCelerySender
password.celery.broker = redis://:s3c#r3t@127.0.0.1/0
"""


class SettingsTests(SynchronousTestCase):
    """The scenario with a broker, chosen by settings."""

    def setUp(self) -> None:
        """Have a file with settings."""
        self.patch(_configure, "_chosen", [])
        self.registry: Any = BaseGlobalComponents("scratch")
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        path = Path(folder, "production.ini")
        path.write_text(INI, encoding="utf-8")
        self.settings = settings_from_ini(path)

    def test_sender(self) -> None:
        """Of the process that saves."""
        sender = configure_model_watcher(self.registry, "web", self.settings)
        self.assertIsInstance(sender, ModelEventWatcherCelerySender)
        self.assertEqual("posts", sender.app.conf.task_default_queue)
        self.assertEqual("memory://", sender.app.conf.broker_url)
        self.assertEqual(2.5, sender._outgoing._timeout)

    def test_receiver(self) -> None:
        """Of the worker."""
        receiver = configure_model_watcher(self.registry, "notify", self.settings)
        self.assertIsInstance(receiver, ModelEventWatcherCeleryReceiver)
        self.assertIn(TASK, receiver.app.tasks)
        self.assertEqual(["notify"], list(receiver._parts))
        options = receiver.app.conf.broker_transport_options
        self.assertEqual(60, options["visibility_timeout"])

    def test_toml(self) -> None:
        """As tables."""
        celery = {"broker": "memory://", "ledger": "memory:"}
        table = {
            "imodeleventwatcher": "oni.watchers.ModelEventWatcherCeleryReceiver",
            "celerymodelwatcher": [f"{__name__}.Notifications"],
            "celery": {**celery, "transaction": True, "visibility_timeout": 7},
        }
        receiver = configure_model_watcher(
            self.registry, "notify", {"watchers": {"notify": table}}
        )
        options = receiver.app.conf.broker_transport_options
        self.assertEqual(7, options["visibility_timeout"])
        self.assertEqual("memory://", receiver.app.conf.broker_url)

    def test_wrong(self) -> None:
        """All of it is said at once, and no password."""
        error = self.assertRaises(
            SettingsError, configure_model_watcher, self.registry, "wrong", self.settings
        )
        self.assertEqual(4, len(error.problems))
        self.assertNotIn("secret", str(error))
        for path, why in (
            ("broker", "it is an address"),
            ("timeout", "it is a number of seconds, not 'never'"),
            ("app", "there is no app 'nowhere.app'"),
            ("speed", "there is no such setting; there are app, broker, folder, queue, timeout"),
        ):
            self.assertIn(f"wrong.celery.{path}: {why}", str(error))

    def test_what_does_not_go_together(self) -> None:
        """Is said of the settings, too."""
        watcher = {"notify.celerymodelwatcher": f"{__name__}.Notifications"}
        for kind, own, why in (
            ("Sender", {"folder": "here"}, "give one of them"),
            ("Receiver", {"transaction": "true"}, "the transaction is a ledger's"),
            ("Receiver", {"ledger": "nowhere://"}, "it begins with memory:"),
        ):
            settings = {
                "notify.imodeleventwatcher": f"oni.watchers.ModelEventWatcherCelery{kind}",
                "notify.celery.broker": "memory://",
                **watcher,
                **{f"notify.celery.{name}": value for name, value in own.items()},
            }
            error = self.assertRaises(
                SettingsError, configure_model_watcher, self.registry, "notify", settings
            )
            self.assertIn("notify.celery: ", str(error))
            self.assertIn(why, str(error))

    def test_what_is_no_time(self) -> None:
        """A time limit is a number of seconds, and not for ever."""
        for value in (True, 0, -1, "inf", "nan", None, []):
            settings = {"web": {"imodeleventwatcher": SENDER, "celery": {"timeout": value}}}
            error = self.assertRaises(
                SettingsError,
                configure_model_watcher,
                self.registry,
                "web",
                {"watchers": settings},
            )
            self.assertIn(f"it is a number of seconds, not {value!r}", str(error))

    def test_a_password_that_is_not_quoted(self) -> None:
        """The error says what is to be done, and nothing of it."""
        error = self.assertRaises(
            SettingsError, configure_model_watcher, self.registry, "password", self.settings
        )
        self.assertIn("password.celery.broker: it is no broker's address", str(error))
        self.assertNotIn("s3c", str(error))
        self.assertNotIn("r3t", str(error))

    def test_nobody_to_call(self) -> None:
        """A receiver has a watcher."""
        error = self.assertRaises(
            WatcherNameError, configure_model_watcher, self.registry, "lost", self.settings
        )
        self.assertEqual("lost.celerymodelwatcher", error.name)

    def test_without_celery(self) -> None:
        """The error names the extra, and the rest of the room is there."""
        program = (
            "import sys\n"
            "sys.modules['celery'] = None\n"
            "import oni.watchers\n"
            "from oni.errors import MissingExtraError\n"
            "from zope.component import getGlobalSiteManager as registry\n"
            "name = 'oni.watchers.ModelEventWatcherCelerySender'\n"
            "for ask in (\n"
            "    lambda: oni.watchers.ModelEventWatcherCeleryReceiver,\n"
            "    lambda: oni.watchers.configure_model_watcher(\n"
            "        registry(), 'web', {'web.imodeleventwatcher': name}),\n"
            "):\n"
            "    try:\n"
            "        ask()\n"
            "    except MissingExtraError as error:\n"
            "        print(error.extra, error)\n"
        )
        told = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        self.assertEqual(2, len(told))
        for line in told:
            self.assertTrue(line.startswith("celery oni.watchers.ModelEventWatcherCelery"), line)
            self.assertIn("oni-dispatcher[celery]", line)
