"""Shows what the example does: ``python examples/django/manage.py try_it``."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import transaction

from challenges.events import events_from_challenge
from challenges.models import Challenge, Sent
from oni.sources.django import api


class Command(BaseCommand):
    """Saves a challenge, several times, and shows which mails are sent."""

    help = "Make the tables, save a challenge several times, and show which mails are sent."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        call_command("migrate", verbosity=0)
        challenge = Challenge(
            email="ann@example.com",
            start_date=date.today() - timedelta(30),
            end_date=date.today() - timedelta(1),
        )
        self.stdout.write("A save that is rolled back:")
        try:
            with transaction.atomic():
                challenge.save()
                raise RuntimeError("no")
        except RuntimeError:
            self._show()
        self.stdout.write("A save:")
        challenge.pk = None
        challenge.save()
        self._show(challenge)
        self.stdout.write("Three more of it:")
        for _ in range(3):
            challenge.save()
        self._show(challenge)

    def _show(self, challenge: Challenge | None = None) -> None:
        """Wait for the handlers, and show what they have done."""
        if challenge is not None:
            for record in api.process_events(events_from_challenge(challenge)):
                states = ", ".join(f"{each.handler} {each.state}" for each in record.deliveries)
                self.stdout.write(f"  {record.event.group}: {states}")
        self.stdout.write(f"  {Sent.objects.count()} mails so far")
