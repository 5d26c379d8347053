"""What ``manage.py check`` says of watched models, and of databases."""

from __future__ import annotations

from django.apps import apps
from django.core.checks import run_checks
from django.db import connections

from oni.sources.django import api
from oni.sources.django._home import home
from tests.django_project.blog.models import Note, Plain, Post, Remark
from tests.sources.django.case import DjangoCase


def warnings(*labels: str) -> list[str]:
    """Give what the check has to say, of all applications or of these."""
    configs = [apps.get_app_config(label) for label in labels] or None
    return [str(each.obj.__name__) for each in run_checks(configs) if each.id == "oni.W001"]


class DatabaseTests(DjangoCase):
    """``oni.W002``."""

    def found(self, **given: object) -> list[str]:
        """Give what the check says where ``ONI`` is this."""
        home._settings = None
        with self.settings(ONI=given):
            return [each.msg for each in run_checks() if each.id == "oni.W002"]

    def test_options(self) -> None:
        """Databases that the ledger or an outbox refuses are warned of before they are needed."""
        self.assertEqual([], self.found(ledger="other"))
        options = connections["other"].settings_dict["OPTIONS"]
        self.addCleanup(options.update, transaction_mode=options.pop("transaction_mode"))
        for given in ({"ledger": "other"}, {"outbox": ["other"]}):
            with self.subTest(given):
                (message,) = self.found(**given)
                self.assertIn("DATABASES['other'] lets transactions begin", message)
                self.assertIn('"transaction_mode": "IMMEDIATE"', message)
        self.assertEqual([], self.found(ledger="memory:"))


class CheckTests(DjangoCase):
    """``oni.W001``."""

    def test_manager_without(self) -> None:
        """A watched model's manager that tells nobody is warned of, with what to do."""
        self.assertEqual(warnings(), [])
        api.watch(Plain)
        (warning,) = [each for each in run_checks() if each.id == "oni.W001"]
        self.assertIn("blog.Plain", warning.msg)
        self.assertIn("OniManager", warning.hint)

    def test_manager_with(self) -> None:
        """One that tells is not warned of, nor a model that only has sources."""
        api.watch(Post)
        api.register_model_event_source(Plain, lambda plain: [])
        self.assertEqual(warnings(), [])

    def test_a_proxys_manager(self) -> None:
        """A proxy's rows are the model's, and its own managers count, too."""
        api.watch(Note)
        (warning,) = [each for each in run_checks() if each.id == "oni.W001"]
        self.assertIn("blog.Note is watched", warning.msg)
        self.assertIn("'plainly' of Remark", warning.msg)
        self.assertIs(warning.obj, Remark)

    def test_some_applications(self) -> None:
        """Only those that are checked are looked at."""
        api.watch(Plain)
        self.assertEqual((warnings("challenges"), warnings("blog")), ([], ["Plain"]))
