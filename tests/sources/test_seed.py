"""The program that the design began with: four groups for one challenge, and one mail for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from oni import sources as api
from oni.sources import EventSources
from oni.values import Event
from tests.sources.house import Challenge, References, SourcesTestCase, Table

TODAY = date(2024, 2, 29)


def events_from_challenge(challenge: Any) -> Iterator[Event]:
    """Yield an event for each thing that has become true of a challenge."""
    if not challenge.is_active:
        return
    context = {"challenge": challenge}
    yield api.event("challenge_created", challenge.pk, context)
    if (TODAY - challenge.start_date).days > 2 and challenge.donations < 2:
        yield api.event("challenge_inactivity_2d", challenge.pk, context)
    if (challenge.end_date - TODAY).days <= 2:
        yield api.event("challenge_ends_2d", challenge.pk, context)
    if challenge.end_date < TODAY:
        yield api.event("challenge_ended", challenge.pk, context)


GROUPS = ["challenge_created", "challenge_inactivity_2d", "challenge_ends_2d", "challenge_ended"]


class SeedTests(SourcesTestCase):
    """One mail per group and challenge, ever."""

    def setUp(self) -> None:
        """Save a challenge that is over."""
        super().setUp()
        self.table = Table()
        self.challenge = Challenge(
            self.table,
            7,
            is_active=True,
            start_date=TODAY - timedelta(30),
            end_date=TODAY - timedelta(1),
            donations=0,
            user="ann@example.com",
        )
        self.table.save(self.challenge)
        self.mails: list[tuple[str, str]] = []
        self.sources = self.start(self.program())

    def send_challenge_mail(self, event: Event) -> None:
        """Send a mail, as the seed does."""
        challenge = event["context"]["challenge"]
        assert challenge is not self.challenge, "it is loaded anew"
        self.mails.append((f"challenges/mails/{event['group']}", challenge.user))

    def program(self) -> EventSources:
        """Give what each process of it has."""
        sources = self.make(references=[References(self.table)])
        sources.register_group_handler(handler=self.send_challenge_mail, group=r"^challenge")
        sources.register_model_event_source(sender=Challenge, source=events_from_challenge)
        return sources

    def run_everything(self, sources: EventSources) -> None:
        """Send all instances through all sources, in the seed's words."""
        for model, functions in sources.model_sources.items():
            assert model is Challenge
            for function in functions:
                self.get(sources.process_events(sources.only_new_events(function(self.challenge))))

    def test_one_mail_per_group(self) -> None:
        """Each of the four groups has a key of its own, and a mail."""
        self.run_everything(self.sources)
        self.clock.pass_time(5)
        expected = [(f"challenges/mails/{group}", "ann@example.com") for group in GROUPS]
        self.assertEqual(sorted(self.mails), sorted(expected))

    def test_ever(self) -> None:
        """No second one: not the next time, not after a restart, not from another process."""
        self.run_everything(self.sources)
        self.run_everything(self.sources)
        self.get(self.sources.stop())
        again = self.start(self.program())
        other = self.start(self.program())
        for sources in (again, other, again):
            self.run_everything(sources)
        self.clock.pass_time(5)
        self.assertEqual(set(Counter(self.mails).values()), {1})
        self.assertEqual(len(self.mails), 4)

    def test_not_only_one_process(self) -> None:
        """Two processes bring the same events at the same time, and one of them sends each."""
        other = self.start(self.program())
        one = self.sources.process_events(events_from_challenge(self.challenge))
        two = other.process_events(events_from_challenge(self.challenge))
        self.assertEqual(len(self.get(one)), 4)
        self.assertEqual(len(self.get(two)), 4)
        self.assertEqual(set(Counter(self.mails).values()), {1})
        self.assertEqual(len(self.mails), 4)

    def test_freshly_loaded(self) -> None:
        """The handler has the row as it is when it runs."""
        self.get(self.sources.only_new_events([]))
        self.challenge.user = "nobody sees this"
        self.table.rows[7]["user"] = "bob@example.com"
        self.run_everything(self.sources)
        self.assertEqual({user for _, user in self.mails}, {"bob@example.com"})

    def test_a_row_that_is_gone(self) -> None:
        """The delivery ends, with an error that names the row, and the handler is not called."""
        del self.table.rows[7]
        (event, *_) = events_from_challenge(self.challenge)
        (record,) = self.get(self.sources.process_events([event]))
        (delivery,) = record.deliveries
        self.assertEqual((delivery.state, delivery.attempts), ("dead", 1))
        self.assertIn("Challenge 7 cannot be loaded: the row is gone", delivery.last_error)
        self.assertEqual(self.mails, [])
        self.flushLoggedErrors()
