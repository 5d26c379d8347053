"""Events that a project processes by itself, where this process only admits."""

from __future__ import annotations

from io import StringIO
from unittest import mock

from django.core.management import CommandError, call_command
from django.db import transaction

from oni.errors import InvalidHandlerError, LedgerTransactionError, ReactorThreadError, WatchError
from oni.sources.django import _home, api
from oni.sources.django._hand_over import hand_over
from oni.sources.django.testing import deliver_events
from tests.django_project.blog.models import Plain, Post
from tests.sources.django.case import CommittingCase, DjangoCase, keys


class ProcessingTests(DjangoCase):
    """``only_new_events`` and ``process_events``."""

    def test_only_new(self) -> None:
        """Each key is new once, within one call, too."""
        events = [api.event("group", id) for id in (1, 2, 1)]
        self.assertEqual(len(api.only_new_events(iter(events))), 2)
        self.assertEqual(api.only_new_events(events), [])
        self.assertEqual(api.only_new_events([]), [])

    def test_process(self) -> None:
        """What is processed is admitted, and given to its handlers once."""
        ran: list[str] = []
        api.register_group_handler(lambda event: ran.append(event["group"]), "^a", name="a")
        for _ in range(2):
            self.assertEqual(api.process_events([api.event("ab", 1), api.event("b", 1)]), [])
            deliver_events()
        self.assertEqual(ran, ["ab"])

    def test_reactors_thread(self) -> None:
        """They are refused in the reactor's thread, in a transaction, too."""
        with mock.patch.object(_home, "isInIOThread", return_value=True):
            for call in (api.process_events, api.only_new_events):
                with self.assertRaises(ReactorThreadError):
                    call([api.event("group", 1)])
        self.assertEqual(keys(), set())

    def test_models(self) -> None:
        """Every instance goes through its sources; one that fails keeps no other from it."""
        seen: list[object] = []

        def source(post: Post) -> list[api.Event]:
            if post.title == "bad":
                raise ValueError(post.title)
            return [api.event("post", post.pk)]

        for title in ("a", "bad", "c"):
            Post.objects.create(title=title)
        api.register_model_event_source(Post, source)
        done = api.process_models(batch=2, progress=seen.append)
        self.assertEqual(
            (done.model, done.instances, done.events, done.admitted, done.failures),
            ("blog.Post", 3, 2, 2, 1),
        )
        self.assertEqual(len(seen), 2)
        self.assertEqual(api.process_models([Plain]).instances, 0)
        self.assertEqual(api.process_models().admitted, 0)

    def test_model_sources(self) -> None:
        """``MODEL_SOURCES`` is what is registered now."""

        def source(post: Post) -> None:
            return None

        self.assertEqual(dict(api.MODEL_SOURCES), {})
        for _ in range(2):
            api.register_model_event_source(sender=Post, source=source)
        self.assertEqual(dict(api.MODEL_SOURCES), {Post: (source,)})
        self.assertEqual(len(api.MODEL_SOURCES), 1)

    def test_refused_where_it_is_written(self) -> None:
        """What can never work is refused at its registration."""

        async def coroutine(event: api.Event, connection: object) -> None: ...

        with self.assertRaises(InvalidHandlerError):
            api.register_group_handler(coroutine, "x", name="x", on_crash="transaction")
        with self.assertRaisesRegex(InvalidHandlerError, "name="):
            api.register_group_handler(lambda event: None, "x")
        with self.assertRaisesRegex(WatchError, "no field titel; it has"):
            api.watch(Post, columns=["titel"])

    def test_command(self) -> None:
        """The command does the same for named models, and knows which there are."""
        Post.objects.create(title="a")
        api.register_model_event_source(Post, lambda post: [api.event("post", post.pk)])
        said = StringIO()
        call_command("oni_sources", "process", "blog.Post", stdout=said)
        self.assertEqual(said.getvalue(), "1 instances, 1 events, 1 new\n")
        for name, complaint in (
            ("blog.Plain", "blog.Plain has no sources; those that have: blog.Post"),
            ("blog.Pots", "blog.Pots"),
            ("blog", "blog"),
        ):
            with self.assertRaisesRegex(CommandError, complaint):
                call_command("oni_sources", "process", name)

    def test_command_with_failures(self) -> None:
        """Its exit code says that a source has failed."""

        def source(post: Post) -> list[api.Event]:
            raise ValueError

        Post.objects.create(title="a")
        api.register_model_event_source(Post, source)
        said = StringIO()
        with self.assertRaises(SystemExit) as caught:
            call_command("oni_sources", "process", stdout=said)
        self.assertEqual((caught.exception.code, said.getvalue()[-13:]), (1, ", 1 failures\n"))


class CommittingTests(CommittingCase):
    """Where there is no transaction around."""

    def test_admitted_here(self) -> None:
        """Where workers deliver, events are admitted in a transaction of their own; no reactor."""
        with mock.patch.object(_home.Home, "start", side_effect=AssertionError):
            (new,) = api.only_new_events([api.event("group", 1)])
            api.process_events([api.event("group", 2)])
        self.assertEqual(keys(), {new.key, "5:group2"})

    def test_time_limit(self) -> None:
        """What a call waits for the ledger to open is bounded by what ``ONI`` says."""
        settings = _home.DjangoSettings(timeout=2.5)
        with (
            mock.patch.object(_home.Home, "settings", settings),
            mock.patch.object(_home.Home, "start") as start,
        ):
            _home.home.face()
        start.return_value.wait.assert_called_once_with(2.5)

    def test_database_without_outbox(self) -> None:
        """A database that nobody named is refused, and so is what was saved there."""
        with (
            mock.patch.object(_home.Home, "settings", _home.DjangoSettings(deliver="worker")),
            self.assertRaisesRegex(LedgerTransactionError, r"name 'other' in ONI\['outbox'\]"),
            transaction.atomic(using="other"),
        ):
            hand_over("other", [api.event("group", 1)])

    def test_a_password(self) -> None:
        """The URL of a ledger may have a password, which no error shows."""
        url = "postgresql://ann:secret@127.0.0.1/oni"
        settings = _home.DjangoSettings(ledger=url, deliver="worker")
        for call in (lambda: hand_over("other", [api.event("group", 1)]), deliver_events):
            with (
                mock.patch.object(_home.Home, "settings", settings),
                self.assertRaises(LedgerTransactionError) as caught,
            ):
                call()
            self.assertNotIn("secret", str(caught.exception))


class TestingTests(DjangoCase):
    """``deliver_events``."""

    def test_what_became_of_it(self) -> None:
        """It tells what was run, phase by phase; what failed has failed."""
        order: list[str] = []

        def fine(event: api.Event) -> None:
            order.append("fine")

        async def coroutine(event: api.Event) -> None:
            order.append("coroutine")

        def broken(event: api.Event) -> None:
            order.append("broken")
            raise ValueError("no")

        def within(event: api.Event, connection: object) -> None:
            order.append("within")
            Plain.objects.create(text="within")

        api.register_group_handler(within, "g", name="w", phase="after", on_crash="transaction")
        api.register_group_handler(fine, "g", name="f", phase="after")
        api.register_group_handler(coroutine, "g", name="c", phase="during")
        api.register_group_handler(broken, "g", name="b", phase="before", max_attempts=1)
        api.process_events([api.event("g", 1)])
        ended = deliver_events()
        self.assertEqual(order[:2], ["broken", "coroutine"])
        self.assertEqual(sorted(order[2:]), ["fine", "within"])
        states = {each.handler: each.state for each in ended}
        self.assertEqual(states, {"b": "dead", "c": "done", "f": "done", "w": "done"})
        self.assertEqual(Plain.objects.count(), 1)
        self.assertEqual(deliver_events(), [])

    def test_retried_later(self) -> None:
        """What failed once waits for its time, and is not run again at once."""

        def broken(event: api.Event) -> None:
            raise ValueError("no")

        api.register_group_handler(broken, "g", name="b")
        api.process_events([api.event("g", 1)])
        (delivery,) = deliver_events()
        self.assertEqual((delivery.state, delivery.attempts), ("pending", 1))
        self.assertEqual(deliver_events(), [])

    def test_one_that_waits(self) -> None:
        """A handler that waits for a reactor is said to, as there is none."""
        from twisted.internet.defer import Deferred

        api.register_group_handler(lambda event: Deferred(), "g", name="waits", threaded=False)
        api.process_events([api.event("g", 1)])
        with self.assertRaisesRegex(AssertionError, "1 handler"):
            deliver_events()

    def test_another_ledger(self) -> None:
        """Where the ledger is somewhere else, nothing can be delivered within the test."""
        other = _home.DjangoSettings(ledger="redis://127.0.0.1/0")
        with (
            mock.patch.object(_home.Home, "settings", other),
            self.assertRaisesRegex(LedgerTransactionError, "settings for tests"),
        ):
            deliver_events()
