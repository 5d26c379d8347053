"""Who hears of it."""

from __future__ import annotations

from typing import Any

from django.core.mail import EmailMessage

from challenges.models import Sent
from oni.sources.django import api


def send_challenge_mail(event: api.Event) -> None:
    """Send a mail. It runs in a thread, after the commit, and may run again after a crash.

    So the mail has the event's idempotency key for its id, by which a mail server can tell.
    """
    challenge = event["context"]["challenge"]  # loaded anew
    EmailMessage(
        subject=event["group"],
        body=f"About your challenge {challenge.pk}",
        to=[challenge.email],
        headers={"X-Idempotency-Key": event.idempotency_key},
    ).send()


def count(event: api.Event, connection: Any) -> None:
    """Note it, in the transaction in which the ledger notes that this is done: both, or none."""
    Sent.objects.create(group=event["group"], challenge=event["context"]["challenge"])
