"""Connects Oni with a model's signals."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db.models import Model, signals

from oni.sources.django import _changes
from oni.sources.django._cascades import watch_cascades
from oni.sources.django._hand_over import hand_over
from oni.sources.django._home import home
from oni.sources.django._many import watch_many
from oni.sources.django._saves import make_saves_atomic
from oni.sources.django._snapshots import remember_loading
from oni.sources.django._watched import Watch, concrete, family, watched

__all__ = ["run_sources_of", "watch_model"]


def watch_model(watch: Watch) -> None:
    """Let a model's changes be told. The second time: as it is said now."""
    watched.add(watch)
    make_saves_atomic(watch.model)
    remember_loading(watch.model)
    for sender in family(watch.model):
        for name in ("pre_save", "post_save", "post_delete"):
            signal = getattr(signals, name)
            signal.connect(getattr(_changes, name), sender=sender, dispatch_uid="oni.watch")
    watch_many(watch)
    watch_cascades(watch)


def run_sources_of(model: type[Model]) -> None:
    """Let each saved instance of a model go through its sources. The second time: nothing."""
    make_saves_atomic(concrete(model))
    for sender in apps.get_models():
        if issubclass(sender, model):
            signals.post_save.connect(_saved, sender=sender, dispatch_uid="oni.sources")


def _saved(sender: type[Model], instance: Model, raw: bool, using: str, **_: Any) -> None:
    """Admit the events of a saved instance, in the transaction that saves it."""
    if not raw:  # it is not from a fixture
        hand_over(using, home.sources.model_events(instance))
