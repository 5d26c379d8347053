"""What gives messages to a broker: it asks for a confirmation, and tries once more at most."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from oni.watchers.celery import TASK, _post
from oni.watchers.celery._post import Post


class Connection:
    """Stands for a connection of kombu's."""

    alt = ()

    def __init__(self, kind: str) -> None:
        """Begin without a broker."""
        self.transport = SimpleNamespace(driver_type=kind)
        self.transport_options: dict[str, Any] = {}
        self.limits: list[float] = []
        socket = SimpleNamespace(settimeout=self.limits.append)
        self.connection = SimpleNamespace(transport=SimpleNamespace(sock=socket))
        self.is_open = False

    def ensure_connection(self, **options: Any) -> None:
        """Open it."""
        self.is_open = True

    def release(self) -> None:
        """Close it."""
        self.is_open = False

    collect = release


class App:
    """Stands for Celery's.

    Attributes:
        connections: All that it has made.
        answer: Is called with each message.
        sent: What the broker was given.
    """

    def __init__(self, kind: str = "amqp") -> None:
        """Have a good broker."""
        self.kind = kind
        self.connections: list[Connection] = []
        self.answer: Callable[[], object] = lambda: None
        self.sent: list[dict[str, Any]] = []
        queue = SimpleNamespace(name="posts")
        self.amqp = SimpleNamespace(
            router=SimpleNamespace(route=lambda options, name: {"queue": queue})
        )

    def connection_for_write(self, **options: Any) -> Connection:
        """Make one."""
        self.connections.append(Connection(self.kind))
        return self.connections[-1]

    def send_task(self, name: str, **options: Any) -> None:
        """Let the broker have it."""
        assert options["connection"].is_open
        self.answer()
        self.sent.append({"name": name, **options})


class PostTests(SynchronousTestCase):
    """It has the message, or it is not known that it has it."""

    def setUp(self) -> None:
        """Have a clock."""
        self.now = 0.0
        self.patch(_post.time, "monotonic", lambda: self.now)
        self.app = App()
        self.post = Post(self.app, 5.0)

    def fail_after(self, seconds: float, times: int) -> list[int]:
        """Let sending fail so often, each time after so many seconds; give how often it did."""
        failed: list[int] = []

        def answer() -> None:
            if len(failed) < times:
                failed.append(1)
                self.now += seconds
                raise ConnectionResetError("gone")

        self.app.answer = answer
        return failed

    def opened(self) -> list[bool]:
        """Say which connections are open."""
        return [each.is_open for each in self.app.connections]

    def test_what_is_asked_for(self) -> None:
        """A confirmation, from the disk, and an error where no queue takes it; within bounds."""
        self.post.send("text", "k", attempt=3, countdown=2.0)
        (sent,) = self.app.sent
        (connection,) = self.app.connections
        self.assertEqual(
            {
                "name": TASK,
                "args": ["text", 3, None, "posts"],
                "connection": connection,
                "countdown": 2.0,
                "queue": "posts",
                "ignore_result": True,
                "retry": False,
                "serializer": "json",
                "delivery_mode": 2,
                "mandatory": True,
                "timeout": 5.0,
                "confirm_timeout": 5.0,
                "add_to_parent": False,
            },
            sent,
        )
        self.assertEqual({"confirm_publish": True, "max_retries": 0}, connection.transport_options)
        self.assertEqual([5.0], connection.limits)

    def test_on_other_brokers(self) -> None:
        """Bounds are what there is."""
        self.app.kind = "other"
        self.post.send("text", "k")
        (connection,) = self.app.connections
        self.assertEqual(
            {"max_retries": 0, "socket_connect_timeout": 5.0, "socket_timeout": 5.0},
            connection.transport_options,
        )

    def test_what_is_kept(self) -> None:
        """Is that of a queue, and in Redis."""
        self.assertIsNone(self.post.kept("posts"))
        self.app.kind = "redis"
        self.assertIsNone(Post(self.app, 5.0).kept(None))

    def test_one_connection(self) -> None:
        """Is kept from one message to the next."""
        for _ in range(2):
            self.post.send("text", "k")
        self.assertEqual([True], self.opened())
        self.post.close()
        self.assertEqual([False], self.opened())

    def test_closed_while_idle(self) -> None:
        """A broker may have closed what nobody used: it is tried once more, on a new one."""
        self.post.send("text", "k")
        self.fail_after(0, 1)
        self.post.send("text", "k")
        self.assertEqual(2, len(self.app.sent))
        self.assertEqual([False, True], self.opened())

    def test_a_new_connection(self) -> None:
        """Was not closed for being idle: what fails there has failed."""
        failed = self.fail_after(0, 1)
        self.assertRaises(ConnectionResetError, self.post.send, "text", "k")
        self.assertEqual((1, []), (len(failed), self.app.sent))
        self.assertEqual([False], self.opened())

    def test_twice(self) -> None:
        """It is not tried a third time, and the next message has another connection."""
        self.post.send("text", "k")
        self.fail_after(0, 2)
        self.assertRaises(ConnectionResetError, self.post.send, "text", "k")
        self.post.send("text", "k")
        self.assertEqual(2, len(self.app.sent))
        self.assertEqual([False, False, True], self.opened())

    def test_no_time_left(self) -> None:
        """Whoever waits for it would not hear of a second try."""
        self.post.send("text", "k")
        failed = self.fail_after(3.0, 1)
        self.assertRaises(ConnectionResetError, self.post.send, "text", "k")
        self.assertEqual((1, 1), (len(failed), len(self.app.sent)))

    def test_an_address_that_is_none(self) -> None:
        """Is no other error beside the one that is told."""

        def broken(**options: Any) -> Any:
            raise ValueError("no address")

        self.patch(self.app, "connection_for_write", broken)
        self.assertEqual("", self.post.address)
