"""The source."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from oni.sources.django import api
from tests.django_project.challenges.models import Challenge


def events_from_challenge(challenge: Challenge) -> Iterator[api.Event]:
    """Yield an event for each thing that has become true of a challenge."""
    if not challenge.is_active:
        return

    context = {"challenge": challenge}
    yield api.event("challenge_created", challenge.pk, context)

    if (date.today() - challenge.start_date).days > 2:  # noqa: SIM102 - as it is written there
        if challenge.donations.count() < 2:
            yield api.event("challenge_inactivity_2d", challenge.pk, context)

    if (challenge.end_date - date.today()).days <= 2:
        yield api.event("challenge_ends_2d", challenge.pk, context)

    if challenge.end_date < date.today():
        yield api.event("challenge_ended", challenge.pk, context)
