"""The registration."""

from __future__ import annotations

from django.apps import AppConfig

from oni.sources.django import api


class ChallengesConfig(AppConfig):
    """The application."""

    name = "tests.django_project.challenges"

    def ready(self) -> None:
        """Register the handler and the source."""
        from tests.django_project.challenges.events import events_from_challenge
        from tests.django_project.challenges.mails import send_challenge_mail

        api.register_group_handler(
            handler=send_challenge_mail,
            group=r"^challenge",
        )
        Challenge = self.get_model("Challenge")
        api.register_model_event_source(
            sender=Challenge,
            source=events_from_challenge,
        )
