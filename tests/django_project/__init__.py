"""A Django project for tests: call :func:`set_up` before anything of Django is imported.

Each process has a database file of its own, in a folder that goes with it.
"""

from __future__ import annotations

import os

__all__ = ["set_up"]


def set_up() -> None:
    """Let Django know its settings, and make the tables. From the second time on: nothing."""
    from django.apps import apps

    if not apps.ready:
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django_project.settings"
        import django

        django.setup()
        from django.core.management import call_command

        for alias in ("default", "other"):
            call_command("migrate", run_syncdb=True, verbosity=0, database=alias)
