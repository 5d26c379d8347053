"""The signals of models: what has become of rows.

They are sent after the transaction that did it was committed. The sender is the model's class.
"""

from __future__ import annotations

from oni.signals._signal import Signal

__all__ = ["post_delete", "post_save"]

post_save = Signal("post_save")
"""A row was saved: ``receiver(sender, instance, created)``."""

post_delete = Signal("post_delete")
"""A row was deleted: ``receiver(sender, instance)``."""
