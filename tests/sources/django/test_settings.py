"""What ``ONI`` may say."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.test import override_settings

from oni.errors import SettingsError
from oni.sources.django._home import Home, home
from oni.sources.django._settings import DjangoSettings, read_settings
from oni.values import Phase

ALIASES = ("default", "other")


def test_defaults() -> None:
    """Nothing need be said."""
    assert read_settings({}, ALIASES) == DjangoSettings()
    assert DjangoSettings().is_own_ledger is False


def test_everything() -> None:
    """Everything can be said, and lists are kept as tuples."""
    said = {
        "ledger": "redis://127.0.0.1/0",
        "outbox": ["default"],
        "deliver": "worker",
        "threads": 8,
        "phases": ["first", Phase("second", on_error="abort")],
        "namespace": "blog",
        "lease": 30,
        "timeout": 5.0,
        "stop_timeout": 1,
    }
    settings = read_settings(said, ALIASES)
    assert settings.is_own_ledger
    assert settings.outbox == ("default",)
    assert settings.phases == ("first", Phase("second", on_error="abort"))
    assert (settings.threads, settings.timeout) == (8, 5.0)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("leger", "default", "did you mean 'ledger'?"),
        ("xyz", 1, "known are ledger, outbox"),
        (7, 1, "there is no such setting"),
        ("ledger", "third", "DATABASES has default, other"),
        ("ledger", "", "a ledger's URL, is wanted, not ''"),
        ("ledger", None, "is wanted, not None"),
        ("outbox", "other", "a list of aliases"),
        ("outbox", ["third"], "there is no database 'third'"),
        ("outbox", ["default"], "has the ledger"),
        ("deliver", "there", "'here' or 'worker'"),
        ("deliver", [], "'here' or 'worker'"),
        ("threads", 0, "a positive integer"),
        ("threads", True, "a positive integer"),
        ("phases", [], "different names"),
        ("phases", ["a", "a"], "different names"),
        ("phases", ["a", 1], "different names"),
        ("phases", "before", "different names"),
        ("namespace", "", "a text"),
        ("lease", -1, "a positive number of seconds"),
        ("timeout", 0, "or None, is wanted"),
        ("stop_timeout", None, "a positive number of seconds"),
    ],
)
def test_each_mistake(name: object, value: object, complaint: str) -> None:
    """Each mistake is named with the setting, and what it should be."""
    with pytest.raises(SettingsError) as caught:
        read_settings({name: value}, ALIASES)
    (problem,) = caught.value.problems
    assert problem.startswith(f"ONI[{name!r}]: ")
    assert complaint in problem


def test_all_mistakes_at_once() -> None:
    """All of them are one error."""
    with pytest.raises(SettingsError) as caught:
        read_settings({"threads": 0, "lease": 0, "unknown": 1}, ALIASES)
    assert len(caught.value.problems) == 3


def test_no_dict() -> None:
    """Something else than a dict is refused."""
    with pytest.raises(SettingsError, match="a dict is wanted"):
        read_settings(["ledger"], ALIASES)


def test_read_from_the_project() -> None:
    """They are the project's, read once."""
    with override_settings(ONI={"threads": 9}):
        home = Home()
        assert home.settings.threads == 9
    assert home.settings.threads == 9
    with override_settings(ONI={"threads": -9}), pytest.raises(SettingsError):
        Home().settings  # noqa: B018 - it is read


def test_wrong_at_the_start() -> None:
    """What is wrong is said when Django sets the application up, and not when it is first used."""
    home._settings = None
    try:
        with override_settings(ONI={"threads": 0}), pytest.raises(SettingsError, match="threads"):
            apps.get_app_config("oni").ready()
    finally:
        home._settings = None
