"""What happens to a challenge."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from challenges.models import Challenge
from oni.sources.django import api


def events_from_challenge(challenge: Challenge) -> Iterator[api.Event]:
    """Yield all that is true of a challenge by now. What was told before is told once."""
    if not challenge.is_active:
        return
    context = {"challenge": challenge}
    yield api.event("challenge_created", challenge.pk, context)
    if (date.today() - challenge.start_date).days > 2 and challenge.donations.count() < 2:
        yield api.event("challenge_inactivity_2d", challenge.pk, context)
    if (challenge.end_date - date.today()).days <= 2:
        yield api.event("challenge_ends_2d", challenge.pk, context)
    if challenge.end_date < date.today():
        yield api.event("challenge_ended", challenge.pk, context)
