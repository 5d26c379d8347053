"""Receivers by their identity: a method is made anew each time that it is asked for."""

from __future__ import annotations

from typing import Any

__all__ = ["identity"]


def identity(receiver: Any) -> tuple[int, Any]:
    """Give what names a receiver as long as it is there: its instance, and its function."""
    instance = getattr(receiver, "__self__", None)
    function = getattr(receiver, "__func__", None)
    if instance is not None and function is None:  # a method of a built-in class
        return id(instance), getattr(receiver, "__name__", id(receiver))
    return id(instance), id(receiver if function is None else function)
