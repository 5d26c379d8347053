"""Signals of models: what has become of a row, in the thread that did it, after its commit.

They are sent for the models that a project watches, by :func:`oni.sources.sqlalchemy.watch` or
:func:`oni.sources.django.api.watch`. Receivers are called in the thread that has committed, which
goes on when they have returned, so several at once where several threads commit. One that fails is
logged, and neither who has saved nor another receiver notices. Nothing is kept of them: what must
be done, even if this process dies now, is for a handler of :mod:`oni.sources`, or a watcher.

The sender is the instance's class itself. Statements that change rows without instances send
nothing. While nobody is connected, they cost nothing.
"""

from __future__ import annotations

from oni.signals._signal import Signal

__all__ = ["post_delete", "post_save"]

post_save = Signal("post_save")
"""A row was made or changed: ``receiver(sender, instance, created)``.

``instance`` is the one that was saved. With SQLAlchemy its columns have the values that were
committed, though it is expired afterwards as ever; its session is the one that has just committed,
and within ``with sessions.begin()`` can load nothing more: query in a session of your own.
``created`` says whether the row is new.
"""

post_delete = Signal("post_delete")
"""A row was deleted: ``receiver(sender, instance)``.

``instance`` has what was known of the row. With SQLAlchemy it is the one that was deleted,
detached from its session; with Django a copy of it, which has the primary key that the other one
loses.
"""
