"""What ``manage.py check`` says about watched models, and about the ledger's database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db.models import Model

from oni.ledger.django import settings_problems
from oni.sources.django._home import home
from oni.sources.django._querysets import OniQuerySet
from oni.sources.django._watched import family, watched

__all__ = ["check_databases", "check_managers", "register_checks"]


def register_checks() -> None:
    """Let Django's checks have these among them."""
    register(check_managers, Tags.models)
    register(check_databases, Tags.compatibility)


def check_databases(app_configs: Sequence[Any] | None, **_: Any) -> list[CheckMessage]:
    """Warn of databases of the ledger, or of an outbox, from which nothing would be delivered."""
    settings = home.settings
    aliases = dict.fromkeys(settings.outbox)
    if not settings.is_own_ledger:
        aliases = {settings.ledger: None, **aliases}
    return [
        Warning(f"Nothing is delivered: {problem}.", id="oni.W002")
        for alias in aliases
        for problem in settings_problems(alias)
    ]


def check_managers(app_configs: Sequence[Any] | None, **_: Any) -> list[CheckMessage]:
    """Warn of watched models with a manager whose bulk statements nobody is told of."""
    wanted = None if app_configs is None else {config.label for config in app_configs}
    return [
        Warning(
            f"{watch.label} is watched, and update(), bulk_create() and bulk_update() of the "
            f"manager {manager.name!r} of {manager.model.__name__} tell nobody what they change.",
            hint=(
                "Let it be oni.sources.django.OniManager(), or its querysets inherit from "
                "oni.sources.django.OniQuerySet."
            ),
            obj=manager.model,
            id="oni.W001",
        )
        for watch in watched
        for manager in _managers(watch.model)
        if (wanted is None or watch.model._meta.app_label in wanted)
        and not issubclass(type(manager.get_queryset()), OniQuerySet)
    ]


def _managers(model: type[Model]) -> list[Any]:
    """Give a model's managers, and those that only its proxies have."""
    proxies = [each for each in family(model) if each is not model]
    return [*model._meta.managers, *(m for each in proxies for m in each._meta.local_managers)]
