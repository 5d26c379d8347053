"""The listener that puts events into Redis, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import redis
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from oni.errors import MissingExtraError, NotNowError, SettingsError
from oni.listeners import AfterResourceChanged, ListenerBase, activate, new_dispatcher
from oni.listeners.redis import FIELD, Listener, load_from_config
from tests.listeners.fake_redis import FakeRedis
from tests.listeners.kept_case import KeptCase

EVENT = AfterResourceChanged(
    payload={"action": "create", "resource_name": "article", "article_id": 7},
    impacted_records=[{"new": {"id": 7, "at": datetime(2024, 2, 29, tzinfo=UTC)}}],
    key="one",
)
USE = {"event_listeners": "redis", "event_listeners.redis.use": "oni.listeners.redis"}


class ListenerTests(SynchronousTestCase):
    """What comes into Redis."""

    def setUp(self) -> None:
        """Make a server."""
        self.server = FakeRedis()

    def listener(self, **options: Any) -> Listener:
        """Make a listener."""
        return Listener(client=self.server, **options)

    def test_list(self) -> None:
        """The payload as it is, the records, and a key; what is oldest is at the right."""
        listener = self.listener(key="queue")
        listener(EVENT)
        listener(AfterResourceChanged(payload={"action": "delete"}, key="two"))
        newest, oldest = map(json.loads, self.server.kept["queue"])
        self.assertEqual(
            {
                "action": "create",
                "resource_name": "article",
                "article_id": 7,
                "impacted_records": [{"new": {"id": 7, "at": "2024-02-29T00:00:00Z"}}],
                "key": "one",
            },
            oldest,
        )
        self.assertEqual("two", newest["key"])
        self.assertEqual([], self.server.published)

    def test_stream(self) -> None:
        """Or an entry with one field."""
        self.listener(key="stream", kind="stream")(EVENT)
        [entry] = self.server.kept["stream"]
        self.assertEqual("one", json.loads(entry[FIELD])["key"])

    def test_notify(self) -> None:
        """A notification is published in the transaction that puts the event there."""
        self.listener(key="queue", notify="news")(EVENT)
        self.assertEqual([2], self.server.transactions)
        self.assertEqual([("news", "queue")], self.server.published)

    def test_full(self) -> None:
        """When too many wait no more are put there."""
        listener = self.listener(key="queue", max_length=2)
        listener(EVENT)
        listener(EVENT)
        error = self.assertRaises(NotNowError, listener, EVENT)
        self.assertEqual("queue of Redis cannot be used now: 2 events wait in it", str(error))
        self.assertEqual(2, len(self.server.kept["queue"]))
        self.server.kept["queue"].pop()
        listener(EVENT)

    def test_away(self) -> None:
        """A server that is away is told as that, with its own words."""
        self.server.is_away = True
        error = self.assertRaises(NotNowError, self.listener(), EVENT)
        self.assertIn("Error 111", error.reason)

    def test_refused(self) -> None:
        """A server that answers, and refuses, is told as that."""
        self.server.refusal = redis.ResponseError("WRONGTYPE")
        error = self.assertRaises(NotNowError, self.listener(), EVENT)
        self.assertIn("WRONGTYPE", error.reason)

    def test_forgetful(self) -> None:
        """A server that keeps no file is warned of, once."""
        self.server.persistence = {"aof_enabled": 0}
        said: list[Any] = []
        globalLogPublisher.addObserver(said.append)
        self.addCleanup(globalLogPublisher.removeObserver, said.append)
        listener = self.listener(key="queue")
        for _ in range(3):
            listener(EVENT)
        self.assertEqual(3, len(self.server.kept["queue"]))
        formats = [event["log_format"] for event in said if "log_format" in event]
        self.assertEqual(1, len([text for text in formats if "are lost" in text]))
        self.assertEqual(1, self.server.asked)

    def test_durable(self) -> None:
        """With ``durable`` it is given nothing; when its settings have changed it is."""
        listener = self.listener(key="queue", durable=True)
        for persistence, reason in (
            ({"aof_enabled": 0}, "appendonly is no"),
            ({}, "does not say"),
            (redis.ResponseError("NOPERM"), "does not say"),
        ):
            self.server.persistence = persistence
            error = self.assertRaises(NotNowError, listener, EVENT)
            self.assertIn(reason, error.reason)
        self.assertEqual({}, self.server.kept)
        self.server.persistence = {"aof_enabled": 1}
        listener(EVENT)
        self.assertEqual(1, len(self.server.kept["queue"]))
        self.server.persistence = {"aof_enabled": 0}
        self.assertRaises(NotNowError, listener, EVENT)

    def test_nobody_knows(self) -> None:
        """Where the server does not say what it keeps, events are put there, and no word said."""
        self.server.persistence = redis.ResponseError("NOPERM")
        self.listener(key="queue")(EVENT)
        self.assertEqual(1, len(self.server.kept["queue"]))

    def test_not_json(self) -> None:
        """What JSON cannot say is an error of its own."""
        event = AfterResourceChanged(payload={"action": object()})
        self.assertRaises(TypeError, self.listener(), event)

    def test_closed(self) -> None:
        """Its client is closed with it."""
        self.listener().close()
        self.assertEqual(1, self.server.closed)

    def test_blocks(self) -> None:
        """It is called where it may block."""
        self.assertTrue(self.listener().blocks)
        self.assertIsInstance(self.listener(), ListenerBase)


class SettingsTests(SynchronousTestCase):
    """What settings say."""

    def load(self, **own: Any) -> Listener:
        """Make one of its own settings."""
        return load_from_config({f"x.{name}": value for name, value in own.items()}, "x.")

    def test_settings(self) -> None:
        """Its own settings, as texts or as TOML has them."""
        said = {
            "url": "redis://127.0.0.1:7/3",
            "key": "queue",
            "kind": "stream",
            "max_length": "5",
            "notify": "news",
            "timeout": "0.5",
            "durable": "yes",
        }
        found = vars(self.load(**said))
        client = found.pop("_client")
        del found["_has_warned"]
        self.assertEqual(
            {
                "_key": "queue",
                "_kind": "stream",
                "_max_length": 5,
                "_notify": "news",
                "_durable": True,
            },
            found,
        )
        options = client.connection_pool.connection_kwargs
        bound = {name: options[name] for name in ("port", "db", "socket_timeout")}
        self.assertEqual({"port": 7, "db": 3, "socket_timeout": 0.5}, bound)
        self.assertEqual(0.5, options["socket_connect_timeout"])
        self.assertEqual(2.0, vars(self.load(max_length=2))["_max_length"])

    def test_everything_wrong(self) -> None:
        """All of it is named, and no password."""
        error = self.assertRaises(
            SettingsError,
            self.load,
            url="http://:secret@nowhere",
            key="",
            kind="set",
            max_length=0,
            notify=5,
            timeout="soon",
            durable="perhaps",
            listname="queue",
        )
        names = [problem.partition(":")[0].removeprefix("x.") for problem in error.problems]
        self.assertEqual(
            ["kind", "key", "notify", "max_length", "timeout", "durable", "url", "listname"],
            names,
        )
        self.assertNotIn("secret", str(error))
        for url in (5, "redis://host:port", "nothing"):
            self.assertRaises(SettingsError, self.load, url=url)
        for number in (True, "nan", "inf", -1):
            self.assertRaises(SettingsError, self.load, timeout=number)

    def test_not_installed(self) -> None:
        """Without redis-py it is said what to install; a slip of the pen is another matter."""
        self.patch_out("oni.listeners.redis", "redis")
        error = self.assertRaises(MissingExtraError, activate, USE, new_dispatcher())
        self.assertEqual("redis", error.extra)
        wrong = {**USE, "event_listeners.redis.use": "oni.listeners.reddis"}
        wrong_error = self.assertRaises(SettingsError, activate, wrong, new_dispatcher())
        self.assertIn("No module named 'oni.listeners.reddis'", str(wrong_error))

    def patch_out(self, module: str, dependency: str) -> None:
        """Let a module be imported anew, without what it needs."""
        import sys

        for name in (module, dependency):
            self.addCleanup(sys.modules.__setitem__, name, sys.modules[name])
        del sys.modules[module]
        sys.modules[dependency] = None  # type: ignore[assignment]


class KeptTests(KeptCase):
    """What a ledger brings it."""

    def setUp(self) -> None:
        """Switch it on."""
        super().setUp()
        self.server = FakeRedis()
        self.patch_client()
        self.listeners = self.switch_on(USE)

    def patch_client(self) -> None:
        """Let it talk to the server."""
        self.patch(
            __import__("oni.listeners.redis", fromlist=["_client"]),
            "_client",
            lambda url, timeout: self.server,
        )

    def heard(self) -> list[Any]:
        """Give the ids in the list, oldest first."""
        kept = reversed(self.server.kept.get("oni:events", []))
        return [json.loads(text)["article_id"] for text in kept]

    def test_after_the_commit(self) -> None:
        """What was committed is put there; what was not is not."""
        self.transact(id=1)
        self.transact(id=2, rolled_back=True)
        self.assertEqual([1], self.heard())

    def test_away(self) -> None:
        """While Redis is away nothing is lost, and it is said once, not once for each event."""
        self.server.is_away = True
        for number in range(20):
            self.transact(id=number)
        for _ in range(12):  # an hour: far more attempts than others have
            self.run_for(300)
        self.assertEqual([], self.heard())
        self.assertEqual((20, 0), (self.counted("pending"), self.counted("dead")))
        self.assertGreater(self.listeners.failures["redis"], 100)
        self.server.is_away = False
        self.run_for(301)
        self.assertEqual(list(range(20)), sorted(self.heard()))
        self.assertEqual(20, self.counted("done"))
        fails = [text for text in self.said if "redis fails" in text]
        self.assertEqual(1, len(fails), fails)
        self.assertIn("Error 111", fails[0])
        self.assertEqual(1, len([text for text in self.said if "redis succeeds again" in text]))
        self.assertEqual(2, len(self.said), self.said)
