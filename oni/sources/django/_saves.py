"""Saves that are transactions: with the row goes what its sources and watchers made of it."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.db import router, transaction
from django.db.models import Model

__all__ = ["make_saves_atomic"]

_MARK = "_oni_is_atomic"


def make_saves_atomic(model: type[Model]) -> None:
    """Let each save of a model be a transaction that ends after ``post_save``.

    Django commits a save outside a transaction before it sends that signal: what a receiver
    writes then may be lost with the process, and what it raises changes nothing any more. Within
    a transaction nothing is added. The second time nothing happens, and it stays so.
    """
    save_base = model.save_base
    if getattr(save_base, _MARK, False):
        return

    @wraps(save_base)
    def save_base_in_transaction(
        self: Any,
        raw: bool = False,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Any = None,
    ) -> None:
        using = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using, savepoint=False):
            save_base(self, raw, force_insert, force_update, using, update_fields)

    setattr(save_base_in_transaction, _MARK, True)
    patched: Any = model
    patched.save_base = save_base_in_transaction
