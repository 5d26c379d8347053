"""The event sources of a Django project, in a daemon or a worker."""

from __future__ import annotations

import os

import django
from django.apps import apps
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from oni.errors import SettingsError

__all__ = ["set_up", "stop_timeout"]


def set_up(module: str) -> None:
    """Let Django know its settings, and load the project's applications. It may be done again.

    Raises:
        SettingsError: There is no such module, or it does not suit.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = module
    try:
        django.setup()
        apps.get_app_config("oni")
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise
        raise SettingsError(
            [f"sources.django_settings: there is no module {error.name!r} on Python's path"]
        ) from error
    except (ImproperlyConfigured, LookupError) as error:
        raise SettingsError([f"sources.django_settings: {module}: {error}"]) from error


def stop_timeout() -> float:
    """Give the seconds that handlers have at the end, as the project says."""
    given = getattr(django_settings, "ONI", {})
    return float(given.get("stop_timeout", 10.0))
