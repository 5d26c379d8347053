"""Receivers by their identity: a method is made anew each time that it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any
from weakref import ref

__all__ = ["giver", "identity"]


def identity(receiver: Any) -> tuple[int, Any]:
    """Give what names a receiver as long as it is there: its instance, and its function."""
    instance = getattr(receiver, "__self__", None)
    function = getattr(receiver, "__func__", None)
    if instance is not None and function is None:  # a method of a built-in class
        return id(instance), getattr(receiver, "__name__", id(receiver))
    return id(instance), id(receiver if function is None else function)


def giver(receiver: Any) -> Callable[[], Any]:
    """Give what gives a receiver as long as it is there. Nothing is kept alive for that."""
    instance = getattr(receiver, "__self__", None)
    function = getattr(receiver, "__func__", None)
    try:
        held = ref(instance)
    except TypeError:
        try:
            return ref(receiver)  # whoever calls it keeps this very object
        except TypeError:
            return lambda: receiver
    if function is None:
        name = getattr(receiver, "__name__", "")
        return lambda: getattr(held(), name, None)
    return lambda: None if (found := held()) is None else MethodType(function, found)
