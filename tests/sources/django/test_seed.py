"""The program that the design began with: one mail for each group of a challenge, ever."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.apps import apps
from django.core import mail
from django.db import transaction

from oni.sources.django import api
from tests.django_project.challenges.models import Challenge, Donation, User
from tests.sources.django.case import DjangoCase, deliver_events, keys

GROUPS = ["challenge_created", "challenge_inactivity_2d", "challenge_ends_2d", "challenge_ended"]


class SeedTests(DjangoCase):
    """The program with its models, saved as its users do."""

    def setUp(self) -> None:
        """Register what the program registers."""
        super().setUp()
        apps.get_app_config("challenges").ready()
        self.user = User.objects.create(email="ann@example.com")

    def challenge(self, **other: Any) -> Challenge:
        """Save a challenge that is over, and that nobody gave to."""
        today = date.today()
        values = {"start_date": today - timedelta(30), "end_date": today - timedelta(1)}
        return Challenge.objects.create(user=self.user, **(values | other))

    def mails(self) -> list[tuple[str, list[str]]]:
        """Give the subjects and receivers of all mails so far."""
        return [(sent.subject.removeprefix("challenges/mails/"), sent.to) for sent in mail.outbox]

    def test_one_mail_per_group(self) -> None:
        """Four groups of one challenge are four mails, however often it is saved."""
        challenge = self.challenge()
        deliver_events()
        for _ in range(3):
            challenge.save()
            deliver_events()
        expected = [(group, ["ann@example.com"]) for group in GROUPS]
        self.assertCountEqual(self.mails(), expected)

    def test_two_challenges(self) -> None:
        """Each challenge has its own keys."""
        first, second = self.challenge(), self.challenge()
        deliver_events()
        self.assertEqual(len(self.mails()), 8)
        bodies = {sent.body for sent in mail.outbox}
        self.assertEqual(bodies, {f"challenge {first.pk}", f"challenge {second.pk}"})

    def test_what_becomes_true_later(self) -> None:
        """A challenge that ends later has its last mails then, and no other again."""
        challenge = self.challenge(start_date=date.today(), end_date=date.today() + timedelta(30))
        deliver_events()
        self.assertEqual([group for group, _ in self.mails()], ["challenge_created"])
        challenge.end_date = date.today() - timedelta(1)
        challenge.save()
        deliver_events()
        self.assertCountEqual(
            [group for group, _ in self.mails()],
            ["challenge_created", "challenge_ends_2d", "challenge_ended"],
        )

    def test_inactive(self) -> None:
        """A source that yields nothing has no event."""
        self.challenge(is_active=False)
        deliver_events()
        self.assertEqual((self.mails(), keys()), ([], set()))

    def test_the_source_asks_the_database(self) -> None:
        """What a source reads is what the transaction sees."""
        with transaction.atomic():
            challenge = self.challenge(end_date=date.today() + timedelta(30), is_active=False)
            for _ in range(2):
                Donation.objects.create(challenge=challenge)
            challenge.is_active = True
            challenge.save()
        deliver_events()
        self.assertEqual([group for group, _ in self.mails()], ["challenge_created"])

    def test_the_loop(self) -> None:
        """Sending every instance through every source brings nothing that was there already."""
        self.challenge()
        deliver_events()
        for model, sources in api.MODEL_SOURCES.items():
            for instance in model.objects.all():
                for source in sources:
                    api.process_events(api.only_new_events(source(instance)))
        deliver_events()
        self.assertEqual(len(self.mails()), 4)

    def test_the_loop_alone(self) -> None:
        """It also finds what was never saved through a signal."""
        challenge = self.challenge(is_active=False)
        Challenge.objects.filter(pk=challenge.pk).update(is_active=True)
        for _ in range(2):
            for model, sources in api.MODEL_SOURCES.items():
                for instance in model.objects.all():
                    for source in sources:
                        api.process_events(api.only_new_events(source(instance)))
            deliver_events()
        self.assertCountEqual([group for group, _ in self.mails()], GROUPS)

    def test_rollback(self) -> None:
        """A save that is rolled back burns no key."""
        with self.assertRaises(RuntimeError), transaction.atomic():
            challenge = self.challenge()
            raise RuntimeError("no")
        self.assertEqual(keys(), set())
        challenge.pk = None
        challenge.save()
        deliver_events()
        self.assertEqual(len(self.mails()), 4)
