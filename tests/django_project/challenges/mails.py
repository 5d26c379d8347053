"""The handler."""

from __future__ import annotations

from typing import Any

from django.core.mail import EmailMessage

from oni.sources.django import api


def send_challenge_mail(event: api.Event) -> None:
    """Send a mail, another one for each group."""
    challenge = event["context"]["challenge"]
    render_to_mail(
        # Different mail text per event group:
        "challenges/mails/%s" % event["group"],  # noqa: UP031 - as it is written there
        {
            "challenge": challenge,
        },
        to=[challenge.user.email],
    ).send()  # a mail that fails is tried again; Django 6.1 deprecates fail_silently


def render_to_mail(template: str, context: dict[str, Any], **options: Any) -> EmailMessage:
    """Make a mail whose subject is the template's name."""
    return EmailMessage(template, f"challenge {context['challenge'].pk}", **options)
