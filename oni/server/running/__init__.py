"""The daemon's own life: whether it is ready, how it ends, who watches it, where its log goes.

Importing this room does no work; its parts are imported where they are needed.
"""

from __future__ import annotations

from oni.server.running._condition import Condition

__all__ = ["Condition"]
