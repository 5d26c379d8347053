"""Where sources and handlers are registered."""

from __future__ import annotations

from django.apps import AppConfig

from oni.sources.django import api


class ChallengesConfig(AppConfig):
    """The application."""

    name = "challenges"

    def ready(self) -> None:
        """Register; nothing is started by that."""
        from challenges.events import events_from_challenge
        from challenges.handlers import count, send_challenge_mail

        api.register_group_handler(handler=send_challenge_mail, group=r"^challenge")
        api.register_group_handler(
            handler=count, group=r"^challenge", phase="after", on_crash="transaction"
        )
        api.register_model_event_source(
            sender=self.get_model("Challenge"), source=events_from_challenge
        )
