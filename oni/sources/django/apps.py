"""How Django comes to know the application."""

from __future__ import annotations

from django.apps import AppConfig

from oni.sources.django._checks import register_checks
from oni.sources.django._home import home
from oni.sources.django._requests import start_with_first_request

__all__ = ["OniConfig"]


class OniConfig(AppConfig):
    """The application ``oni``: its tables are those of the ledger."""

    name = "oni.sources.django"
    label = "oni"
    verbose_name = "Oni"
    default_auto_field = "django.db.models.AutoField"

    def ready(self) -> None:
        """Read the settings, and see to it that what was admitted is delivered.

        Nothing runs before the first request, commit or call: the process may fork until then.

        Raises:
            oni.errors.SettingsError: ``ONI`` is wrong.
        """
        home.settings  # noqa: B018 - it is read now
        register_checks()
        start_with_first_request()
